"""Quantisation of frozen weights to 8 or 4 bits, implemented by bitsandbytes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from instruct_lab.config import Component, component
from instruct_lab.errors import Problem, Refusal
from instruct_lab.optional_packages import missing_packages

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

ON_CPU = (0, 50)
"""First version of bitsandbytes that supports training with 4- and 8-bit layers on a CPU."""


@component
class Quantization(Component):
    """Linear layers quantised to 8 or 4 bits; embeddings, norms and the output layer keep the model's `dtype`.

    Quantisation saves memory if adapters are trained on a large model; `tuning=lora model.quantization=4bit` is QLoRA.
    Quantised weights cannot be trained, and merging an adapter into them rounds the result. The method for 8 bits is
    LLM.int8() (Dettmers et al., 2022). The method for 4 bits is that of QLoRA (Dettmers et al., 2023): each weight has
    one of 16 values, and blocks of 64 weights share a scale. Quantisation also works on a CPU, but slowly.
    """

    bits: Literal[4, 8] = 4  # number of bits of each weight
    levels: Literal["nf4", "fp4"] = "nf4"  # 4 bits: nf4, levels for normally distributed weights; fp4, floating point
    double: bool = True  # 4 bits: also quantise the scales of the blocks, which saves 0.4 bits per weight
    compute_dtype: Literal["float32", "bfloat16", "float16"] | None = None  # 4 bits: products' dtype; null: model.dtype

    def __post_init__(self) -> None:
        """Refuse settings for 4 bits if `bits` is 8."""
        if self.bits == 8:
            for field, default in (("levels", "nf4"), ("double", True), ("compute_dtype", None)):
                if getattr(self, field) != default:
                    raise Refusal(field, "applies to 4 bits, and bits is 8")

    def problems(self) -> Iterator[Problem]:
        """Report that bitsandbytes or accelerate is not installed, or that bitsandbytes needs a missing GPU."""
        missing = list(missing_packages("bitsandbytes", "accelerate"))
        if missing:
            yield from missing
            return
        from instruct_lab.model.hardware import no_gpu

        version = importlib.metadata.version("bitsandbytes")
        absent = no_gpu()
        if absent and tuple(int(part) for part in version.split(".")[:2]) < ON_CPU:
            wanted = ".".join(map(str, ON_CPU))
            reason = f"bitsandbytes {version} needs a GPU, and {absent}; {wanted} works without"
            yield Problem(key="", reason=reason, kind="unavailable_here")

    def config(self, dtype: Any, kept: list[str] | None) -> BitsAndBytesConfig:
        """Build the configuration for transformers.

        Args:
            dtype: torch dtype of the weights that are not quantised.
            kept: names of modules that are not quantised; `None`: only the output layer.
        """
        import torch
        from transformers import BitsAndBytesConfig

        if self.bits == 8:
            return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=self.levels,
            bnb_4bit_use_double_quant=self.double,
            bnb_4bit_compute_dtype=dtype if self.compute_dtype is None else getattr(torch, self.compute_dtype),
            llm_int8_skip_modules=kept,
        )
