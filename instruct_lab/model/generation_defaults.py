"""Generation config of a loaded model: only the special tokens of the checkpoint's own generation config are kept."""

from __future__ import annotations

from typing import Any

KEPT = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids")
"""Fields of the generation config that an encoder-decoder keeps, to generate as in its pretraining.

For example, Marian must not generate its pad token, which is its start token, and BART has a forced first token.
"""


def special_tokens_config(model: Any, tokenizer: Any) -> Any:
    """Return a generation config that holds only special tokens: those that begin and end a text, and the pad token.

    For an encoder-decoder, it also holds the decoder's start token, the tokens that the model is forced to generate,
    and those that it must not generate.
    """
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else tokenizer.eos_token_id
    kept = {}
    if model.config.is_encoder_decoder and own is not None:
        kept = {name: value for name in KEPT if (value := getattr(own, name, None)) is not None}
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id, **kept
    )
