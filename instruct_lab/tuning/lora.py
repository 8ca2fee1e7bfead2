"""Low-rank adaptation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.tuning.base import Tuning

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALL_LINEAR = "all-linear"
ModuleNames = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


@component
class LoRA(Tuning):
    r"""Low-rank adaptation: W + (alpha / r)·B·A with W frozen, A and B trained. Source: Hu et al., 2021.

    B starts at zero, so training starts from the untuned model; A is drawn from torch's random state. Adapter weights
    are float32 whatever the model's type. Where the tokenizer got new tokens, their rows of the embeddings train too,
    and are kept with the adapter.
    """

    is_adapter: ClassVar[bool] = True
    families: ClassVar = frozenset({"decoder", "encoder-decoder", "encoder"})

    r: Annotated[int, Field(ge=1)] = 16  # rank of the update
    alpha: Annotated[float, Field(gt=0)] = 32.0  # scale numerator
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # on the adapter's input, in training
    target_modules: str | ModuleNames = (
        ALL_LINEAR  # all-linear (every linear layer but the output), names, or one regular expression of the full name
    )
    exclude_modules: str | ModuleNames | None = None  # names, or one regular expression; never adapted
    use_rslora: bool = False  # scale by alpha / sqrt(r) instead (Kalajdzievski, 2023)
    bias: Literal["none", "all", "lora_only"] = "none"  # which biases train too

    def __post_init__(self) -> None:
        """Refuse an empty name and what is no regular expression."""
        for field in ("target_modules", "exclude_modules"):
            value = getattr(self, field)
            if value == "":
                raise Refusal(field, "names no module", ALL_LINEAR if field == "target_modules" else "null")
            if isinstance(value, str) and value != ALL_LINEAR:
                try:
                    re.compile(value)
                except re.error as error:
                    raise Refusal(field, f"is not a regular expression: {error}") from error
        if self.exclude_modules == ALL_LINEAR:
            raise Refusal("exclude_modules", "leaves nothing to adapt", "null")

    def apply(self, model: PreTrainedModel) -> PreTrainedModel:
        """Freeze the model and add trainable adapters beside its linear layers.

        Raises:
            InstructLabError: a name matches no module, or one that no adapter can stand beside.
        """
        import peft

        self._check_names(model)
        config = peft.LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
            exclude_modules=self.exclude_modules,
            use_rslora=self.use_rslora,
            bias=self.bias,
            trainable_token_indices=_new_rows(model),
            task_type=peft.TaskType.CAUSAL_LM,
        )
        try:
            adapted: Any = peft.get_peft_model(model, config, autocast_adapter_dtype=True)
        except ValueError as error:
            raise InstructLabError(
                f"No adapter can be added: {' '.join(str(error).split())[:300]}",
                where="tuning.target_modules",
                do=f"name some of this model's linear layers: {', '.join(linear_names(model))}",
            ) from error
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "trainable_tokens_delta" in name:
                parameter.data = parameter.data.float()
        return adapted

    def save(self, model: PreTrainedModel, path: Path) -> None:
        """Write the adapter alone, as PEFT does."""
        adapted: Any = model
        adapted.save_pretrained(path, save_embedding_layers=False)

    def load(self, model: PreTrainedModel, path: Path) -> PreTrainedModel:
        """Put the saved adapter on the base model.

        Raises:
            InstructLabError: the folder holds no adapter, a damaged one, or that of another model.
        """
        import peft

        if not (path / "adapter_config.json").is_file() or not (path / "adapter_model.safetensors").is_file():
            raise InstructLabError("The folder holds no adapter", where=str(path), do="finish the run first")
        try:
            adapted: Any = peft.PeftModel.from_pretrained(model, str(path), is_trainable=False)
            kept = set(_saved_names(path))
        except Exception as error:
            raise InstructLabError(
                f"The adapter cannot be put on this model ({' '.join(str(error).split())[:300]})",
                where=str(path),
                do="use the model that the run was made with, or take another checkpoint of the run",
            ) from error
        expected = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
        if kept != expected:
            name = sorted(kept ^ expected)[0]
            raise InstructLabError(
                f"The adapter does not fit this model: {len(kept ^ expected)} tensors differ, such as {name}",
                where=str(path),
                do="use the model that the run was made with",
            )
        return adapted

    def merge(self, model: PreTrainedModel) -> PreTrainedModel:
        """Add B·A to the frozen weights and take the adapters away.

        Raises:
            InstructLabError: the adapter holds numbers that are not finite.
        """
        adapted: Any = model
        try:
            merged: Any = adapted.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise InstructLabError(
                f"The adapter cannot be merged: {' '.join(str(error).split())[:200]}",
                do="train with a lower learning rate or gradient clipping, or take an earlier checkpoint",
            ) from error
        return merged

    def _check_names(self, model: Any) -> None:
        """Every name has to match: PEFT says nothing of those that do not, as long as one does."""
        for field in ("target_modules", "exclude_modules"):
            value = getattr(self, field)
            if value is None or value == ALL_LINEAR:
                continue
            for name in [value] if isinstance(value, str) else value:
                if any(_matches(name, isinstance(value, str), module) for module, _ in model.named_modules()):
                    continue
                names = linear_names(model)
                close = nearest(name, names)
                listed = isinstance(value, str) and value in names
                hint = f"as a list: tuning.{field}=[{value}]; " if listed else ""
                hint = f"did you mean {close}? " if close else hint
                raise InstructLabError(
                    f"No module of the model matches {name!r}",
                    where=f"tuning.{field}",
                    do=f"{hint}this model's linear layers are {', '.join(names)}",
                )


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of a model's linear layers, its output layer left out."""
    import torch

    output = model.get_output_embeddings()
    linear = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not output]
    return sorted({name.rpartition(".")[2] for name in linear})


def _matches(name: str, is_pattern: bool, module: str) -> bool:
    """Whether PEFT adapts this module: a pattern matches the whole name, a name its last parts."""
    if is_pattern:
        return re.fullmatch(name, module) is not None
    return module == name or module.endswith(f".{name}")


def _new_rows(model: Any) -> dict[str, list[int]] | None:
    """Which rows of which embeddings no pretraining has seen; tied ones are named once."""
    rows = getattr(model, "added_token_ids", None)
    if not rows:
        return None
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    if layers[1] is None or layers[1].weight is layers[0].weight:
        layers = layers[:1]
    names = {id(module): name for name, module in model.named_modules()}
    return {names[id(layer)].rpartition(".")[2]: list(rows) for layer in layers}


def _saved_names(path: Path) -> Iterator[str]:
    from safetensors import safe_open

    with safe_open(path / "adapter_model.safetensors", framework="pt") as file:
        yield from file.keys()
