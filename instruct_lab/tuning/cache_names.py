"""The cache of keys and values between PEFT and transformers, which call it by different names.

PEFT hands keys and values that stand before a text to the model as `past_key_values`. transformers called its cache so
until 5.23, and `cache` since: in decoding PEFT then no longer finds it, puts its virtual tokens in again at every step,
and transformers takes its own cache in their place.
"""

from __future__ import annotations

import inspect
from types import MethodType
from typing import Any

NAMES = ("cache", "past_key_values")
"""What transformers calls its cache, the newest name first."""
PEFT_NAME = "past_key_values"


def cache_name(model: Any) -> str | None:
    """The name by which a plain model, or the layers under its head, take a cache; none if they take none."""
    taken = {*inspect.signature(model.forward).parameters, *inspect.signature(model.base_model.forward).parameters}
    return next((name for name in NAMES if name in taken), None)


def bridged(adapted: Any) -> Any:
    """Let PEFT find the cache whatever its name, and the model take what PEFT hands it by its own name."""
    base = adapted.get_base_model()
    if _named_as_taken not in base._forward_pre_hooks.values():
        base.register_forward_pre_hook(_named_as_taken, with_kwargs=True)
    if hasattr(adapted, "base_model_prepare_inputs_for_generation"):
        adapted.base_model_prepare_inputs_for_generation = MethodType(_by_every_name, base)
        adapted.prepare_inputs_for_generation = MethodType(_with_one_cache, adapted)
    return adapted


def _by_every_name(base: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = type(base).prepare_inputs_for_generation(base, *args, **kwargs)
    cache = next((inputs[name] for name in NAMES if inputs.get(name) is not None), None)
    return {**inputs, **dict.fromkeys(NAMES, cache)}


def _with_one_cache(adapted: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What PEFT prepares, with one cache alone: its own where it put one in, else the one there was."""
    before = next((kwargs[name] for name in NAMES if kwargs.get(name) is not None), None)
    inputs: dict[str, Any] = type(adapted).prepare_inputs_for_generation(adapted, *args, **kwargs)
    found = [inputs.pop(name, before) for name in NAMES]
    return {**inputs, PEFT_NAME: next((cache for cache in found if cache is not before), before)}


def _named_as_taken(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """A hook before the model's forward pass."""
    handed = kwargs.get(PEFT_NAME)
    if handed is None:
        return None
    rest = {name: value for name, value in kwargs.items() if name not in NAMES}
    return args, {**rest, cache_name(module) or PEFT_NAME: handed}
