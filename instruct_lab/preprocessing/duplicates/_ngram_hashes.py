"""64-bit hashes of the n-grams of many texts at once; the same in every process and on every machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import xxhash

Hashes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint64]]"
Numbers: TypeAlias = "np.ndarray[Any, np.dtype[np.int32]]"
Integers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"

BASE = np.uint64(0x9E3779B97F4A7C15)
MAX_KNOWN_WORDS = 1 << 16
BATCH_ROWS, BATCH_WORDS = 1000, 1 << 17
"""Largest number of texts, and of words, that are hashed at once."""


class WordHashes(dict[str, int]):
    """The XXH3 hash of every word; a limited number of them is cached."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MAX_KNOWN_WORDS:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


@dataclasses.dataclass(frozen=True)
class HashedTexts:
    """The hashes of the words of several texts, concatenated.

    Args:
        words: hashes `[num_words]`.
        lengths: words of each text.
    """

    words: Hashes
    lengths: Integers

    def ngrams(self, n: int) -> tuple[Hashes, Integers]:
        """The hashes of the n-grams of each text.

        Returns:
            Hashes `[num_ngrams]`, text after text, with repetitions; and offsets `[num_texts + 1]` of each text's first
            hash. A text of fewer than n words has none.
        """
        counts = np.maximum(self.lengths - n + 1, 0)
        offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
        if not offsets[-1]:
            return np.empty(0, dtype=np.uint64), offsets
        starts = np.cumsum(self.lengths) - self.lengths
        positions = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
        return mix(_roll(self.words, n)[positions]), offsets


class Hasher:
    """Hashes words, with a cache."""

    def __init__(self) -> None:
        self._known = WordHashes()

    def texts(self, texts: list[list[str]], least: int = 0) -> HashedTexts:
        """The hashed words of texts; a text of fewer words than `least` is padded with zeros unless it is empty."""
        known = self._known
        flat: list[int] = []
        lengths = []
        for words in texts:
            flat.extend([known[word] for word in words])
            missing = least - len(words) if words else 0
            if missing > 0:
                flat.extend([0] * missing)
            lengths.append(len(words) + max(0, missing))
        return HashedTexts(np.array(flat, dtype=np.uint64), np.array(lengths, dtype=np.int64))


def _roll(words: Hashes, n: int) -> Hashes:
    """The polynomial hash of every window of n words, modulo 2^64."""
    size = len(words) - n + 1
    grams = words[:size].copy()
    for shift in range(1, n):
        grams *= BASE
        grams += words[shift : shift + size]
    return grams


def mix(hashes: Hashes) -> Hashes:
    """Mix the bits of hashes. Source: the finalizer of SplitMix64 (Steele et al., 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def in_batches(texts: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Texts in lists of limited size; a text that is longer by itself gets its own list."""
    batch: list[list[str]] = []
    num_words = 0
    for words in texts:
        batch.append(words)
        num_words += len(words)
        if len(batch) >= BATCH_ROWS or num_words >= BATCH_WORDS:
            yield batch
            batch, num_words = [], 0
    if batch:
        yield batch
