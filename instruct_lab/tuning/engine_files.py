"""Write the files of a tuned model for an inference engine: the model's weights and, separately, a LoRA adapter.

Of all adapters, engines can read only LoRA adapters without trained biases or DoRA magnitudes. If the tuning method
adds no modules to the model, the weights are those of the tuned model, and there is no adapter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instruct_lab.model.family import without_adapters
from instruct_lab.tuning.base import Tuning
from instruct_lab.tuning.lora import LoRA

BASE_LAYER, ADAPTER = ".base_layer.", ".lora_"
"""Parts of parameter names by which PEFT's modules mark a layer's own weights and the weights of its adapter."""


def unreadable_by_engine(tuning: Tuning) -> str | None:
    """Return why an inference engine cannot read the parameters that a method trains; `None` if it can read them."""
    if not tuning.is_adapter:
        return None
    name = type(tuning).__name__
    if not isinstance(tuning, LoRA):
        return f"it reads LoRA adapters, and {name} trains other modules"
    if tuning.use_dora:
        return "it reads no DoRA adapters (tuning.use_dora)"
    if tuning.bias != "none":
        return f"it reads no trained biases (tuning.bias={tuning.bias})"
    return None


def adapter_rank(model: Any) -> int | None:
    """Return the largest rank in the model's LoRA adapter, or `None` if the model has no adapter."""
    config = getattr(model, "active_peft_config", None)
    return None if config is None else max([int(config.r), *map(int, (config.rank_pattern or {}).values())])


def has_frozen_base(model: Any) -> bool:
    """Whether the model has an adapter and all other parameters are frozen, so that the base model stays unchanged."""
    return adapter_rank(model) is not None and not any(
        parameter.requires_grad and ADAPTER not in name for name, parameter in model.named_parameters()
    )


def write_base(model: Any, path: Path) -> None:
    """Write the model to a folder without its LoRA adapter, if it has one, as `save_pretrained` does.

    Args:
        model: a transformers model, with or without a LoRA adapter.
        path: the folder.
    """
    base = without_adapters(model)
    state = {name.replace(BASE_LAYER, "."): value for name, value in base.state_dict().items() if ADAPTER not in name}
    base.save_pretrained(path, state_dict=state)


def write_adapter(model: Any, path: Path) -> None:
    """Write only the model's adapter to a folder, as PEFT does."""
    model.save_pretrained(path, save_embedding_layers=False)
