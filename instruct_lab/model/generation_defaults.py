"""The defaults for generation that stay with a loaded model."""

from __future__ import annotations

from typing import Any

KEPT = ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "bad_words_ids")
"""What an encoder-decoder needs to generate as it was trained: Marian must not generate its pad token, which starts its
text; BART was trained to begin with a certain token."""


def special_tokens_config(model: Any, tokenizer: Any) -> Any:
    """A generation config with the checkpoint's special tokens, without its temperature, top_p or length."""
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else tokenizer.eos_token_id
    kept = {}
    if model.config.is_encoder_decoder and own is not None:
        kept = {name: value for name in KEPT if (value := getattr(own, name, None)) is not None}
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id, **kept
    )
