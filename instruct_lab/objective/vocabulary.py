"""The token ids of a tokenizer that masking and denoising need, computed once for each tokenizer."""

from __future__ import annotations

import dataclasses
import weakref
from typing import Any

CONTINUES = "##"
"""Prefix of a WordPiece token that continues a word."""


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What masking and denoising need to know about a tokenizer's vocabulary.

    Args:
        ordinary: ids of all tokens except special tokens, sorted.
        sentinels: ids of `<extra_id_0>`, `<extra_id_1>`, ... in this order.
        marks_continuations: whether a prefix marks tokens that continue a word, as in WordPiece; otherwise a prefix
            marks tokens that start a word.
    """

    ordinary: list[int]
    sentinels: list[int]
    marks_continuations: bool


_known: weakref.WeakKeyDictionary[Any, tuple[int, Vocabulary]] = weakref.WeakKeyDictionary()


def vocabulary_of(tokenizer: Any) -> Vocabulary:
    """Return the vocabulary of a tokenizer; the result is cached, and computed again after tokens were added."""
    size = len(tokenizer)
    known = _known.get(tokenizer)
    if known is None or known[0] != size:
        known = _known[tokenizer] = (size, _read(tokenizer))
    return known[1]


def _read(tokenizer: Any) -> Vocabulary:
    numbers: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    sentinels: list[int] = []
    while (name := f"<extra_id_{len(sentinels)}>") in numbers:
        sentinels.append(numbers[name])
    ordinary = sorted(number for number in numbers.values() if number not in special)
    return Vocabulary(ordinary, sentinels, any(token.startswith(CONTINUES) for token in numbers))
