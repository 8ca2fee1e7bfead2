"""The tokens that rows of a batch share, computed once: the beginning of all prompts, and prompts with several rows.

Prompts begin with the same system prompt or worked examples, and have a row for each beam and sample. Under a causal
mask, the keys and values of shared tokens are the same numbers in every row, so they are computed in one row and then
repeated. The padding of shorter prompts lies between the beginning of all prompts and the other tokens. This is exact
if each layer attends to all earlier tokens that the mask shows, and takes the position of a token from `position_ids`.
Every row is computed whole with

- encoder-decoders, whose encoder is not causal, and virtual tokens, which PEFT puts before the text of each row;
- layers with a sliding window or chunks, which count columns instead of positions (Gemma 3), or with a recurrent state
  (Mamba);
- models that take no positions (BLOOM, MPT);
- rotary embeddings that depend on the length of the whole text (`dynamic`, `longrope`).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from instruct_lab.tuning.cache_names import cache_name

MIN_SAVED = 64
"""Positions that a shared prefix must save in a batch; below, another forward pass costs as much as it saves."""
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
"""Types of rotary embeddings whose frequencies depend on the length of the text."""


def shared_length(model: Any, prompts: Sequence[Sequence[int]]) -> int:
    """Return the number of first tokens to compute once for all prompts; 0 if this does not pay or is not exact.

    Each prompt keeps at least one token of its own, since its last token predicts the first token of the answer.

    Args:
        model: a model of transformers, with or without adapters.
        prompts: token ids of the prompts of a batch.
    """
    ordered = sorted(map(list, prompts))  # what the first and the last share, all share
    bound = min(map(len, prompts)) - 1
    shared = next((index for index in range(bound) if ordered[0][index] != ordered[-1][index]), bound)
    return shared if shared * (len(prompts) - 1) >= MIN_SAVED and has_plain_cache(model) else 0


def prompt_cache(
    model: Any, input_ids: torch.Tensor, mask: torch.Tensor, shared: int, num_beams: int
) -> dict[str, Any]:
    """Create the cache of a batch, with the keys and values of the tokens that its rows share.

    These are the first tokens of all prompts, and all tokens but the last of a prompt that has several rows.

    Args:
        model: a model of transformers in evaluation mode, with or without adapters.
        input_ids: token ids of the prompts, int64 `[batch, seq]`; padding lies after the shared tokens.
        mask: attention mask, int64 `[batch, seq]`.
        shared: number of first tokens that all prompts share, from `shared_length`.
        num_beams: number of rows of each prompt.

    Returns:
        The cache, by the name of the model's argument for it; an empty dictionary for a model without a plain cache,
        whose cache `generate` of transformers creates.
    """
    if not has_plain_cache(model):
        return {}
    base = _without_adapters(model)
    cache = DynamicCache(config=base.config.get_text_config(decoder=True))
    name = str(cache_name(base))
    arguments = {name: cache, "use_cache": True}
    body = base.base_model  # without the head, since no token is predicted
    if shared:
        first = torch.arange(shared, device=input_ids.device)[None]
        body(input_ids=input_ids[:1, :shared], position_ids=first, **arguments)
    distinct, owners = torch.unique(torch.cat([input_ids, mask], dim=1), dim=0, return_inverse=True)
    owners = owners.repeat_interleave(num_beams)  # for each row, the index of its prompt
    width = input_ids.shape[1]
    saves = (len(owners) - len(distinct)) * (width - 1 - shared) >= MIN_SAVED
    if shared:
        cache.batch_repeat_interleave(len(distinct) if saves else len(owners))
    if saves:
        ids, shown = distinct[:, : width - 1], distinct[:, width:-1]  # without the last token
        positions = (shown.cumsum(dim=1) - 1).clamp(min=0)
        body(input_ids=ids[:, shared:], attention_mask=shown, position_ids=positions[:, shared:], **arguments)
        cache.batch_select_indices(owners)
    return {name: cache}


def has_plain_cache(model: Any) -> bool:
    """Whether the cache holds only keys and values, which depend on a token, its position and the tokens before it."""
    base = _without_adapters(model)
    if base.config.is_encoder_decoder or has_prefix_before_padding(model):
        return False
    forwards = (base.forward, base.base_model.forward)
    if not all("position_ids" in inspect.signature(forward).parameters for forward in forwards) or not cache_name(base):
        return False
    config = base.config.get_text_config(decoder=True)
    is_plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
    return is_plain and not hasattr(config, "attention_types") and not _rope_types(config) & LENGTH_DEPENDENT_ROPE


def has_prefix_before_padding(model: Any) -> bool:
    """Whether virtual tokens precede the text, so that padding between them and the text would change positions."""
    has_virtual_tokens = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    return bool(has_virtual_tokens) and not model.config.is_encoder_decoder


def _rope_types(config: Any) -> set[str]:
    """Return the types of the rotary embeddings of all kinds of layers."""
    found: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    parts = [found, *(value for value in found.values() if isinstance(value, dict))]
    return {str(part["rope_type"]) for part in parts if "rope_type" in part}


def _without_adapters(model: Any) -> Any:
    """Return the model of transformers inside PEFT's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
