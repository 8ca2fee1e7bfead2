"""Names of transformers that decoding depends on, and that change between its versions.

Decoding token by token calls a model's `forward` itself. A model whose `forward` lacks one of these arguments, or whose
layers are of another kind, is decoded by `generate` of transformers: slower, with the same answers. A test in
tests/generation fails if a new version of transformers makes decoding slower in this way.
"""

from __future__ import annotations

import inspect
from typing import Any

from instruct_lab.tuning.cache_names import NAMES as CACHE_NAMES

FORWARD_ARGUMENTS = {"input_ids", "attention_mask", "position_ids", "use_cache", "logits_to_keep"}
"""Arguments of `forward` of a decoder."""

LAYERS_WITH_ROWS = {"full_attention", "sliding_attention", "chunked_attention"}
"""Values of `config.layer_types` whose cache has a row for each text, so that rows can be removed from it."""

FIRST_AND_FORBIDDEN_TOKENS = ("forced_bos_token_id", "bad_words_ids")
"""Fields of an encoder-decoder's generation config that decide, beside its start token, which token comes first and
which never."""


def cache_argument(model: Any) -> str | None:
    """The name of the argument by which `forward` takes the cache of keys and values; None if there is none."""
    arguments = _forward_arguments(model)
    return next((name for name in CACHE_NAMES if name in arguments), None)


def can_remove_rows(model: Any) -> bool:
    """Whether finished rows can be removed from a batch of this model.

    Its `forward` must take positions and a cache, and each of its layers must keep a row of the cache for each text.
    """
    has_virtual_tokens = getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
    config = model.config.get_text_config(decoder=True)
    layers = set(getattr(config, "layer_types", None) or ())
    return (
        not has_virtual_tokens
        and not config.is_encoder_decoder
        and layers <= LAYERS_WITH_ROWS
        and _forward_arguments(model) >= FORWARD_ARGUMENTS
        and cache_argument(model) is not None
    )


def decoder_start(model: Any) -> dict[str, Any]:
    """Arguments of a generation config with which an encoder-decoder starts its text, and what it must not write.

    Call it before `evaluation_mode`: transformers keeps some of these values in the model's own generation config.

    Returns:
        An empty dict for other models.
    """
    if not model.config.is_encoder_decoder:
        return {}
    own = getattr(model, "generation_config", None)
    found = {name: getattr(own, name, None) or getattr(model.config, name, None) for name in FIRST_AND_FORBIDDEN_TOKENS}
    start = getattr(own, "decoder_start_token_id", None)
    found["decoder_start_token_id"] = model.config.decoder_start_token_id if start is None else start
    return {name: value for name, value in found.items() if value is not None}


def _forward_arguments(model: Any) -> set[str]:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return set(inspect.signature(base.forward).parameters)
