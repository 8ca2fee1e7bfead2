"""MinHash sketches of rows, stored on disk; rows whose sketches have an equal band may be near duplicates.

A sketch is a list of numbers computed from a text; the more similar two texts are, the more of the numbers are equal.
A band is a group of these numbers at fixed positions.

Sources: Broder, 1997 (MinHash); Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3 (bands).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import rensa

from instruct_lab.data import Conversation
from instruct_lab.data.words import compared_tokens
from instruct_lab.preprocessing.duplicates._ngram_hashes import Hasher, Hashes, Integers, Numbers, in_batches, mix
from instruct_lab.preprocessing.duplicates.compared_text import num_characters


class Shingles:
    """Hashes the n-grams of texts; a text of fewer than n words has one n-gram of all its words."""

    def __init__(self, n: int) -> None:
        self._n, self._hasher = n, Hasher()

    def hash_texts(self, texts: list[list[str]]) -> tuple[Hashes, Integers]:
        """Hash the n-grams of texts.

        Returns:
            Two arrays: the hashes of all n-grams in the order of the texts, and the offset of each text's first hash,
            followed by the number of all hashes.
        """
        return self._hasher.texts(texts, least=self._n).ngrams(self._n)


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of several splits, concatenated.

    The split that is deduplicated comes last. The splits before it are those with which it is compared, such as
    validation and test; all of their rows are kept.

    Args:
        parts: the rows of each split, in this order.
        text: function that returns the text by which a conversation is compared.
        lengths: array to which the length of every row in characters is appended while the rows are read.
    """

    parts: Sequence[Sequence[Conversation]]
    text: Callable[[Conversation], str]
    lengths: array[int] | None = None

    @functools.cached_property
    def starts(self) -> list[int]:
        """The index of the first row of each split, followed by the number of all rows."""
        return [0, *itertools.accumulate(map(len, self.parts))]

    def part(self, row: int) -> int:
        """Return the index in `parts` of the split that contains a row."""
        return next(index for index, start in enumerate(self.starts[1:]) if row < start)

    def conversation(self, row: int) -> Conversation:
        """Return the conversation of a row, given its index among the rows of all splits."""
        part = self.part(row)
        return self.parts[part][row - self.starts[part]]

    def words(self) -> Iterator[list[str]]:
        """Yield the words of every row."""
        for part in self.parts:
            for conversation in part:
                if self.lengths is not None:
                    self.lengths.append(num_characters(conversation))
                yield compared_tokens(self.text(conversation))


class Sketches:
    """The MinHash sketches of all rows in a temporary file, and a hash of each row's words (`whole`) in memory.

    The file holds the first band of every row, then the second band of every row, and so on.

    Args:
        num_rows: number of rows.
        num_bands: number of bands in a sketch.
        band_rows: number of values in a band.
        seed: random seed of the sketches.
        folder: folder of the temporary file (4 bytes per row and band); `None`: the system's temporary folder.
    """

    def __init__(self, num_rows: int, num_bands: int, band_rows: int, seed: int, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `__exit__`
        self.num_rows, self.num_bands, self._band_rows, self._seed = num_rows, num_bands, band_rows, seed
        self.whole: Hashes = np.zeros(num_rows, dtype=np.uint64)  # hash of the words of each row; 0: no words
        self._written = 0

    def add(self, hashes: Hashes, offsets: Integers) -> None:
        """Add the sketches of the next rows, given the hashes of their n-grams.

        Args:
            hashes: the hashes of the n-grams of all these rows.
            offsets: the offset of each row's first hash, followed by the number of all hashes.
        """
        start, size = self._written, len(offsets) - 1
        self._written += size
        has_any = np.flatnonzero(np.diff(offsets))
        if not len(has_any):
            return
        digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets.astype(np.uint64), self.num_bands * self._band_rows, self._seed
        )
        sketch = np.array(digests.to_rows(), dtype=np.uint64)  # [rows, num_bands * band_rows]
        keys = np.zeros((size, self.num_bands), dtype=np.uint64)
        for index in range(self._band_rows):
            keys = mix(keys + sketch[:, index :: self._band_rows] + np.uint64(index + 1))
        for band, column in enumerate((keys >> np.uint64(32)).astype(np.uint32).T):
            self._file.seek(4 * (band * self.num_rows + start))
            self._file.write(column.tobytes())
        self.whole[start + has_any] = _sums(hashes, offsets)[has_any]

    def band(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """Return a 32-bit hash of one band of every row's sketch, uint32 `[rows]`; `index` is the band's index."""
        self._file.seek(4 * index * self.num_rows)
        return np.frombuffer(self._file.read(4 * self.num_rows), dtype=np.uint32)

    def __enter__(self) -> Sketches:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _sums(hashes: Hashes, offsets: Integers) -> Hashes:
    """Combine the hashes of each text's n-grams into one hash: the sum of the mixed hashes, modulo 2^64.

    A sum of 0 is replaced by 1, because 0 stands for a text without words.
    """
    totals = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(mix(hashes))))
    return np.maximum(totals[offsets[1:]] - totals[offsets[:-1]], np.uint64(1))


def sketch_rows(
    rows: Rows, shingles: Shingles, num_bands: int, band_rows: int, seed: int, folder: Path | None
) -> Sketches:
    """Compute the sketches of all rows in one pass.

    Args:
        rows: the rows.
        shingles: hasher of the n-grams of texts.
        num_bands: number of bands in a sketch.
        band_rows: number of values in a band.
        seed: random seed of the sketches.
        folder: folder of the temporary file; `None`: the system's temporary folder.
    """
    sketches = Sketches(rows.starts[-1], num_bands, band_rows, seed, folder)
    for batch in in_batches(rows.words()):
        sketches.add(*shingles.hash_texts(batch))
    return sketches


def buckets(keys: np.ndarray, rows: Numbers) -> Iterator[list[int]]:
    """Yield groups (buckets) of two or more rows that have the same key; the rows of a group are in ascending order."""
    order = np.argsort(keys, kind="stable").astype(np.int32)
    ordered = keys[order]
    same = np.zeros(len(keys) + 1, dtype=np.int8)
    same[1:-1] = ordered[1:] == ordered[:-1]
    del ordered
    edges = np.flatnonzero(np.diff(same))  # start and end of each run of equal keys
    for start, last in zip(edges[::2], edges[1::2], strict=True):
        yield rows[order[start : last + 1]].tolist()
