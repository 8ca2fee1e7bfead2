"""Low-rank adaptation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.tuning.base import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"


@component
class LoRA(Tuning):
    r"""Low-rank adaptation: W + (alpha / r)·B·A with W frozen, A and B trained. Source: Hu et al., 2021.

    B starts at zero, so training starts from the untuned model. Adapter weights are float32 whatever the model's type.
    """

    is_adapter: ClassVar[bool] = True
    families: ClassVar = frozenset({"decoder", "encoder-decoder", "encoder"})

    r: Annotated[int, Field(ge=1)] = 16  # rank of the update
    alpha: Annotated[float, Field(gt=0)] = 32.0  # scale numerator
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # on the adapter's input, in training
    target_modules: str | list[str] = (
        ALL_LINEAR  # all-linear (every linear layer but the output), names, or one regular expression
    )
    exclude_modules: str | list[str] | None = None  # names or one regular expression; never adapted
    use_rslora: bool = False  # scale by alpha / sqrt(r) instead (Kalajdzievski, 2023)
    bias: Literal["none", "all", "lora_only"] = "none"  # which biases train too

    def __post_init__(self) -> None:
        for field in ("target_modules", "exclude_modules"):
            value = getattr(self, field)
            if value == [] or value == "":
                raise Refusal(field, "names no module", ALL_LINEAR if field == "target_modules" else "null")
            if isinstance(value, str) and value != ALL_LINEAR:
                try:
                    re.compile(value)
                except re.error as error:
                    raise Refusal(field, f"not a regular expression: {error}") from error

    def apply(self, model: PreTrainedModel) -> PreTrainedModel:
        """Freeze the model and add trainable adapters beside its linear layers; draws from torch's random state."""
        import peft
        import torch

        config = peft.LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
            exclude_modules=self.exclude_modules,
            use_rslora=self.use_rslora,
            bias=self.bias,
            task_type=peft.TaskType.CAUSAL_LM,
        )
        try:
            adapted: Any = peft.get_peft_model(model, config, autocast_adapter_dtype=True)
        except ValueError as error:
            names = sorted(
                {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
            )
            raise InstructLabError(
                f"No module is adapted: {str(error).splitlines()[0]}",
                where="tuning.target_modules",
                do=f"name some of this model's linear layers: {', '.join(names)}",
            ) from error
        return adapted  # type: ignore[no-any-return]

    def save(self, model: PreTrainedModel, path: Path) -> None:
        """Write the adapter alone, as PEFT does."""
        model.save_pretrained(path)

    def load(self, model: PreTrainedModel, path: Path) -> PreTrainedModel:
        """Put the saved adapter on the base model."""
        import peft

        if not (path / "adapter_config.json").is_file():
            raise InstructLabError("The folder holds no adapter", where=str(path), do="finish the run first")
        adapted: Any = peft.PeftModel.from_pretrained(model, path, is_trainable=False)
        return adapted  # type: ignore[no-any-return]

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add B·A to the frozen weights and take the adapters away."""
        merged: Any = model.merge_and_unload(safe_merge=True)
        return merged  # type: ignore[no-any-return]
