"""Fingerprint (hash) of a tokenizer, which is part of the cache key of encoded examples."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of the parts of a tokenizer that affect text and ids.

    These parts are the class name, the backend (from the `tokenizers` library; for a slow tokenizer, the vocabulary),
    the special tokens, the ids that are added to an empty text, and the chat template.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    settings = [tokenizer.chat_template, special, list(tokenizer("")["input_ids"])]
    return _fingerprint(type(tokenizer).__name__, content, json.dumps(settings))


@functools.lru_cache(maxsize=4)
def _fingerprint(name: str, content: str, settings: str) -> str:
    backend = json.loads(content)
    backend |= {"truncation": None, "padding": None}  # transformers stores the settings of its last call here
    return hashlib.sha256(json.dumps([name, backend, *json.loads(settings)], sort_keys=True).encode()).hexdigest()
