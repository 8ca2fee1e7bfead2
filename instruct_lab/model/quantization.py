"""Weights in 8 or 4 bits while they are frozen, through bitsandbytes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from instruct_lab.config import Component, component
from instruct_lab.errors import Problem, Refusal

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig

ON_CPU = (0, 50)
"""The first version of bitsandbytes whose 4- and 8-bit layers train on a CPU."""


@component
class Quantization(Component):
    """The body's linear layers in 8 or 4 bits; embeddings, norms and the output layer keep `dtype`.

    For adapters on models that would not fit otherwise (QLoRA: `tuning=lora model.quantization=4bit`): the quantised
    weights cannot train, and an adapter that is merged into them is rounded. 8 bits: LLM.int8() (Dettmers et al.,
    2022). 4 bits: blocks of 64 numbers with 16 levels (Dettmers et al., 2023, QLoRA). Runs on a GPU, and slowly on a
    CPU.
    """

    bits: Literal[4, 8] = 4  # of each weight
    levels: Literal["nf4", "fp4"] = "nf4"  # 4 bits: levels of a normal distribution, or floating point
    double: bool = True  # 4 bits: quantise the scales of the blocks too, which saves 0.4 bits per weight
    compute_dtype: Literal["float32", "bfloat16", "float16"] | None = None  # of products; null: the dtype of the model

    def __post_init__(self) -> None:
        """Refuse settings for 4 bits if the weights have 8."""
        if self.bits == 8:
            for field, default in (("levels", "nf4"), ("double", True), ("compute_dtype", None)):
                if getattr(self, field) != default:
                    raise Refusal(field, "applies to 4 bits, and bits is 8")

    def problems(self) -> Iterator[Problem]:
        """A missing package, or one that cannot work without a GPU."""
        for package in ("bitsandbytes", "accelerate"):
            if importlib.util.find_spec(package) is None:
                reason = f"needs the package {package}, which is not installed"
                yield Problem(key="", reason=reason, kind="unavailable_here")
                return
        from instruct_lab.model.hardware import no_gpu

        version = importlib.metadata.version("bitsandbytes")
        absent = no_gpu()
        if absent and tuple(int(part) for part in version.split(".")[:2]) < ON_CPU:
            wanted = ".".join(map(str, ON_CPU))
            reason = f"bitsandbytes {version} needs a GPU, and {absent}; {wanted} works without"
            yield Problem(key="", reason=reason, kind="unavailable_here")

    def config(self, dtype: Any, kept: list[str] | None) -> BitsAndBytesConfig:
        """The configuration for transformers.

        Args:
            dtype: torch dtype of the weights that are not quantised.
            kept: names of modules that are not quantised; None: the output layer.
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
