"""Hashing of the n-grams of many texts at once; the 64-bit hashes are equal in every process and on every machine."""

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
"""Number of texts and number of words; a batch ends when it has reached one of them."""


class WordHashes(dict[str, int]):
    """A cache of the XXH3 hashes of words, cleared when it holds `MAX_KNOWN_WORDS` words."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MAX_KNOWN_WORDS:
            self.clear()
        value = self[word] = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
        return value


@dataclasses.dataclass(frozen=True)
class HashedTexts:
    """The hashes of the words of several texts, concatenated.

    Args:
        words: the hash of each word of all texts, `[num_words]`.
        lengths: the number of words of each text, `[num_texts]`.
    """

    words: Hashes
    lengths: Integers

    def ngrams(self, n: int) -> tuple[Hashes, Integers]:
        """Compute the hashes of the n-grams of each text.

        Returns:
            Two arrays: the hashes of all n-grams, `[num_ngrams]`, in the order of the texts and with repetitions; and
            offsets into them, `[num_texts + 1]`: the hashes of text i are those from offset i to offset i + 1
            (exclusive). A text of fewer than n words has no hashes.
        """
        counts = np.maximum(self.lengths - n + 1, 0)
        offsets = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts)))
        if not offsets[-1]:
            return np.empty(0, dtype=np.uint64), offsets
        starts = np.cumsum(self.lengths) - self.lengths
        positions = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
        return mix(_roll(self.words, n)[positions]), offsets


class Hasher:
    """Hashes the words of texts, with a cache."""

    def __init__(self) -> None:
        self._known = WordHashes()

    def texts(self, texts: list[list[str]], least: int = 0) -> HashedTexts:
        """Hash the words of texts.

        Args:
            texts: the words of each text.
            least: minimum number of hashes of a text that is not empty. A shorter text is padded with zeros.
        """
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
    """Compute one hash for every n consecutive words from the hashes of the words.

    It is a polynomial rolling hash, modulo 2^64. The result has the shape `[num_words - n + 1]`.
    """
    size = len(words) - n + 1
    grams = words[:size].copy()
    for shift in range(1, n):
        grams *= BASE
        grams += words[shift : shift + size]
    return grams


def mix(hashes: Hashes) -> Hashes:
    """Mix the bits of each hash, so that similar hashes become dissimilar.

    Source: the finalizer of SplitMix64 (Steele et al., 2014).
    """
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


def in_batches(texts: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Group texts into batches; a batch ends when it has at least `BATCH_ROWS` texts or `BATCH_WORDS` words."""
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
