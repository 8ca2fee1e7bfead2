"""Token ids of plain texts, which are encoded word by word if the tokenizer permits it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.word_ids import word_ids
from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MANY_TEXTS = 256
"""If a call has at least this many texts, looking up their words in the cache is faster than calling the tokenizer."""


def is_fast(tokenizer: Any) -> bool:
    """Whether a tokenizer is fast (from the `tokenizers` library), that is, supports batches and character offsets."""
    return hasattr(getattr(tokenizer, "backend_tokenizer", None), "encode_batch_fast")


class TextIds:
    """An encoder of plain texts that adds no special tokens and ignores the tokenizer's truncation and padding.

    Args:
        tokenizer: a fast tokenizer (from the `tokenizers` library).

    Raises:
        InstructLabError: the tokenizer is a slow one (written in Python).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not is_fast(tokenizer):
            raise InstructLabError(
                f"{type(tokenizer).__name__} is a slow tokenizer: batches and character offsets need a fast one",
                where="model",
                do="use a model with a tokenizer.json, or convert its tokenizer with transformers",
            )
        self._tokenizer = tokenizer
        self._backend: Any = tokenizer.backend_tokenizer

    def ids_of(self, texts: Sequence[str], *, ordinary: bool = False) -> list[list[int]]:
        """Encode each text separately.

        Args:
            texts: the texts.
            ordinary: whether special tokens that are written out in the texts are encoded as ordinary text.
        """
        if not ordinary and len(texts) >= MANY_TEXTS:
            words = word_ids(self._tokenizer)
            if words is not None:
                return words(texts, self._encode)
        return self._encode(texts, ordinary)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return the start and end offset of each token, in characters.

        A special token that is written out in the text is encoded as ordinary text.
        """
        with self._configured(ordinary=True):
            offsets: list[tuple[int, int]] = self._backend.encode(text, add_special_tokens=False).offsets
        return offsets

    def _encode(self, texts: Sequence[str], ordinary: bool = False) -> list[list[int]]:
        if not texts:
            return []
        with self._configured(ordinary):
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @contextlib.contextmanager
    def _configured(self, ordinary: bool) -> Iterator[None]:
        """Disable truncation and padding; within the block, set whether special tokens in texts are encoded as text."""
        self._backend.no_truncation()  # transformers sets both again in each of its calls
        self._backend.no_padding()
        self._backend.encode_special_tokens = ordinary
        try:
            yield
        finally:
            self._backend.encode_special_tokens = False
