"""Translate the name of the key-value cache between PEFT and recent versions of transformers.

PEFT passes prepended keys and values to the model as `past_key_values`. transformers used this name until version 5.23;
later versions call it `cache`. Without this module, PEFT would not find the cache while decoding and would prepend its
virtual tokens again at every step, and transformers would ignore PEFT's cache.
"""

from __future__ import annotations

import inspect
from types import MethodType
from typing import Any

NAMES = ("cache", "past_key_values")
"""Names of the key-value cache in transformers, newest first."""
PEFT_NAME = "past_key_values"


def cache_name(model: Any) -> str | None:
    """Return the name of the parameter of `forward` that takes a key-value cache: `cache` or `past_key_values`.

    Both the model's and its inner `base_model`'s `forward` are searched; if neither has such a parameter, return
    `None`.
    """
    parameters = {*inspect.signature(model.forward).parameters, *inspect.signature(model.base_model.forward).parameters}
    return next((name for name in NAMES if name in parameters), None)


def bridge_cache_names(adapted: Any) -> Any:
    """Rename the key-value cache wherever PEFT and transformers pass it to each other under different names.

    Args:
        adapted: the PEFT model, which is changed in place and returned.
    """
    base = adapted.get_base_model()
    if _rename_for_model not in base._forward_pre_hooks.values():
        base.register_forward_pre_hook(_rename_for_model, with_kwargs=True)
    if hasattr(adapted, "base_model_prepare_inputs_for_generation"):
        adapted.base_model_prepare_inputs_for_generation = MethodType(_prepare_with_every_name, base)
        adapted.prepare_inputs_for_generation = MethodType(_prepare_with_one_cache, adapted)
    return adapted


def _prepare_with_every_name(base: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = type(base).prepare_inputs_for_generation(base, *args, **kwargs)
    cache = next((inputs[name] for name in NAMES if inputs.get(name) is not None), None)
    return {**inputs, **dict.fromkeys(NAMES, cache)}


def _prepare_with_one_cache(adapted: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return PEFT's inputs for the next decoding step, with a single cache under the name that PEFT uses.

    If PEFT has created a new cache for the virtual tokens, the new cache is used, otherwise the previous one.
    """
    before = next((kwargs[name] for name in NAMES if kwargs.get(name) is not None), None)
    inputs: dict[str, Any] = type(adapted).prepare_inputs_for_generation(adapted, *args, **kwargs)
    found = [inputs.pop(name, before) for name in NAMES]
    return {**inputs, PEFT_NAME: next((cache for cache in found if cache is not before), before)}


def _rename_for_model(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """Rename the cache argument that PEFT passes, so that it has the name that the model's `forward` expects."""
    cache = kwargs.get(PEFT_NAME)
    if cache is None:
        return None
    rest = {name: value for name, value in kwargs.items() if name not in NAMES}
    return args, {**rest, cache_name(module) or PEFT_NAME: cache}
