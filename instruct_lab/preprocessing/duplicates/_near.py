"""Which rows are near duplicates: MinHash sketches, bands of them on disk, pairs compared by their words.

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
from typing import Any, TypeAlias

import numpy as np
import rensa

from instruct_lab.data import Conversation
from instruct_lab.data.words import compared_words
from instruct_lab.preprocessing.duplicates._compared import num_characters
from instruct_lab.preprocessing.duplicates._ngrams import Hasher, Hashes, Integers, Numbers, batches, mixed

Flags: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

KNOWN_ROWS = 2048
"""Rows whose shingles are kept while pairs are compared."""
MAX_COMPARISONS = 100
"""Rows of one bucket that a row is compared with, at most."""


class Shingles:
    """The n-grams of the words of texts; of a text that has fewer words, one of them all."""

    def __init__(self, n: int) -> None:
        self._n, self._hasher = n, Hasher()

    def of(self, texts: list[list[str]]) -> tuple[Hashes, Integers]:
        """Their hashes, and where each text's begin."""
        return self._hasher.texts(texts, least=self._n).ngrams(self._n)


class Clusters:
    """Rows joined to clusters: union-find, the first row of each its root."""

    def __init__(self, num_rows: int) -> None:
        self.parents = np.arange(num_rows, dtype=np.int32)

    def root(self, row: int) -> int:
        """The first row of a row's cluster."""
        parents = self.parents
        while (parent := int(parents[row])) != row:
            parents[row] = parents[parent]
            row = parent
        return row

    def join(self, one: int, other: int) -> None:
        """Make one cluster of two."""
        one, other = self.root(one), self.root(other)
        self.parents[max(one, other)] = min(one, other)

    def roots(self) -> Numbers:
        """The first row of every row's cluster."""
        parents = self.parents
        while not np.array_equal(further := parents[parents], parents):
            parents = further
        return parents


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of splits one after the other: those that are given way to, then the split's own.

    Args:
        parts: the splits.
        text: what is compared of a conversation.
        lengths: gets every row's length in characters while the rows are read, if it is wanted.
    """

    parts: Sequence[Sequence[Conversation]]
    text: Callable[[Conversation], str]
    lengths: array[int] | None = None

    @functools.cached_property
    def starts(self) -> list[int]:
        """The first row of each part, and the number of all."""
        return [0, *itertools.accumulate(map(len, self.parts))]

    def part(self, row: int) -> int:
        """The number of the part that holds a row."""
        return next(number for number, start in enumerate(self.starts[1:]) if row < start)

    def conversation(self, row: int) -> Conversation:
        """One row."""
        part = self.part(row)
        return self.parts[part][row - self.starts[part]]

    def words(self) -> Iterator[list[str]]:
        """The words of every row."""
        for part in self.parts:
            for conversation in part:
                if self.lengths is not None:
                    self.lengths.append(num_characters(conversation))
                yield compared_words(self.text(conversation))


class Sketches:
    """The bands of every row's MinHash sketch, in a temporary file, band after band; and a hash of all its shingles.

    Args:
        num_rows: how many rows there are.
        num_bands: bands of a sketch.
        band_rows: numbers in a band.
        seed: of the permutations.
        folder: where the temporary file goes (4 bytes a row and band); none: the system's folder for such.
    """

    def __init__(self, num_rows: int, num_bands: int, band_rows: int, seed: int, folder: Path | None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # lives as long as this does
        self.num_rows, self.num_bands, self._band_rows, self._seed = num_rows, num_bands, band_rows, seed
        self.whole: Hashes = np.zeros(num_rows, dtype=np.uint64)  # equal for rows of the same words; 0: a row of none
        self._written = 0

    def add(self, hashes: Hashes, offsets: Integers) -> None:
        """Add the next rows, given the hashes of their shingles and where each row's begin."""
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
        for place in range(self._band_rows):
            keys = mixed(keys + sketch[:, place :: self._band_rows] + np.uint64(place + 1))
        for band, column in enumerate((keys >> np.uint64(32)).astype(np.uint32).T):
            self._file.seek(4 * (band * self.num_rows + start))
            self._file.write(column.tobytes())
        self.whole[start + has_any] = _sums(hashes, offsets)[has_any]

    def band(self, number: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
        """One band of every row, as 32-bit keys."""
        self._file.seek(4 * number * self.num_rows)
        return np.frombuffer(self._file.read(4 * self.num_rows), dtype=np.uint32)

    def __enter__(self) -> Sketches:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _sums(hashes: Hashes, offsets: Integers) -> Hashes:
    """The sum of each text's hashes, never 0."""
    totals = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(mixed(hashes))))
    return np.maximum(totals[offsets[1:]] - totals[offsets[:-1]], np.uint64(1))


def sketches(
    rows: Rows, shingles: Shingles, num_bands: int, band_rows: int, seed: int, folder: Path | None
) -> Sketches:
    """The sketches of all rows, in one pass over them."""
    made = Sketches(rows.starts[-1], num_bands, band_rows, seed, folder)
    for batch in batches(rows.words()):
        made.add(*shingles.of(batch))
    return made


def buckets(keys: np.ndarray, rows: Numbers) -> Iterator[list[int]]:
    """Rows that share a key, two and more, ascending."""
    order = np.argsort(keys, kind="stable").astype(np.int32)
    ordered = keys[order]
    same = np.zeros(len(keys) + 1, dtype=np.int8)
    same[1:-1] = ordered[1:] == ordered[:-1]
    del ordered
    edges = np.flatnonzero(np.diff(same))  # where runs of equal keys begin and end
    for start, last in zip(edges[::2], edges[1::2], strict=True):
        yield rows[order[start : last + 1]].tolist()


class Comparison:
    """Compares pairs of rows by the exact Jaccard similarity of their shingles, and joins those at the threshold.

    Args:
        rows: all rows.
        shingles: hashes them.
        threshold: least similarity of near duplicates.
        num_foreign: the first rows, which are given way to: they are joined with none.
    """

    def __init__(self, rows: Rows, shingles: Shingles, threshold: float, num_foreign: int) -> None:
        self.clusters = Clusters(rows.starts[-1])
        self.like_foreign: dict[int, int] = {}  # own row: the foreign row that it is a near duplicate of
        self.num_compared = self.num_passed_over = 0
        self._rows, self._threshold, self._num_foreign = rows, threshold, num_foreign
        self._shingles = functools.lru_cache(maxsize=KNOWN_ROWS)(self._shingles_of)
        self._of = shingles.of

    def equal_words(self, bucket: list[int]) -> None:
        """Join rows whose words are said to be equal: each is compared with the first."""
        for row in bucket[1:]:
            self._pair(bucket[0], row)

    def bucket(self, bucket: list[int]) -> None:
        """Compare the rows of a bucket in pairs."""
        for place, row in enumerate(bucket[1:], start=1):
            if row < self._num_foreign:
                continue
            self.num_passed_over += max(0, place - MAX_COMPARISONS)
            for other in bucket[max(0, place - MAX_COMPARISONS) : place]:
                self._pair(other, row)

    def spread(self, whole: Hashes) -> None:
        """What is like a row given way to by standing for others, those others are too.

        Args:
            whole: of every row, the hash of all its shingles.
        """
        known = {int(whole[row]): foreign for row, foreign in self.like_foreign.items()}
        if known:
            for row in np.flatnonzero(np.isin(whole, np.array(list(known), dtype=np.uint64))).tolist():
                if row >= self._num_foreign:
                    self.like_foreign.setdefault(row, known[int(whole[row])])

    def one_of_each(self, roots: Numbers, lengths: Sequence[int] | None) -> Flags:
        """Flags `[num_rows]` of the split's own rows that stay: one of each cluster, and none like a foreign row.

        Args:
            roots: the first row of each own row's cluster, counted from the first own row.
            lengths: of all rows; the longest stays, the first where there are several; none: the first.
        """
        own = np.ones(len(roots), dtype=bool)
        own[[row - self._num_foreign for row in self.like_foreign]] = False
        candidates = np.flatnonzero(own).astype(np.int32)
        if lengths is not None:
            sizes = np.array(lengths, dtype=np.int64)[self._num_foreign :]
            candidates = candidates[np.argsort(-sizes[candidates], kind="stable")]
        best = np.full(len(roots), -1, dtype=np.int32)
        best[roots[candidates[::-1]]] = candidates[::-1]  # of equal places, the last is written last
        stays = np.zeros(len(roots), dtype=bool)
        stays[best[best >= 0]] = True
        return stays

    def _pair(self, one: int, other: int) -> None:
        if other < self._num_foreign:
            return
        if one < self._num_foreign:
            if other not in self.like_foreign and self._similar(one, other):
                self.like_foreign[other] = one
        elif self.clusters.root(one) != self.clusters.root(other) and self._similar(one, other):
            self.clusters.join(one, other)

    def _similar(self, one: int, other: int) -> bool:
        self.num_compared += 1
        shorter, longer = sorted((self._shingles(one), self._shingles(other)), key=len)
        if len(shorter) < self._threshold * len(longer):
            return False
        places = np.searchsorted(longer, shorter)
        places[places == len(longer)] = 0
        both = int(np.count_nonzero(longer[places] == shorter))
        return both >= self._threshold * (len(shorter) + len(longer) - both)

    def _shingles_of(self, row: int) -> Hashes:
        hashes, _ = self._of([compared_words(self._rows.text(self._rows.conversation(row)))])
        return np.unique(hashes)


def compare(found: Sketches, comparison: Comparison) -> None:
    """Compare all pairs of rows that share a band; of rows of the same words, the first stands for all."""
    stands = found.whole != 0
    with_any = np.flatnonzero(stands).astype(np.int32)
    for bucket in buckets(found.whole[with_any], with_any):
        comparison.equal_words(bucket)
        stands[bucket[1:]] = False
    standing = np.flatnonzero(stands).astype(np.int32)
    del with_any, stands
    for number in range(found.num_bands):
        for bucket in buckets(found.band(number)[standing], standing):
            comparison.bucket(bucket)
    comparison.spread(found.whole)
