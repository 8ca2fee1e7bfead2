"""Exact comparison of pairs of rows that may be near duplicates, and the clusters that near duplicates form."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from instruct_lab.data.words import compared_tokens
from instruct_lab.preprocessing.duplicates._ngram_hashes import Hashes, Numbers
from instruct_lab.preprocessing.duplicates._sketches import Rows, Shingles, Sketches, buckets

Flags: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"

KNOWN_ROWS = 2048
"""Number of rows whose hashed n-grams are cached while pairs are compared."""
MAX_COMPARISONS = 100
"""Maximum number of earlier rows of a bucket (rows that may be near duplicates) with which a row is compared."""


class Clusters:
    """Clusters of rows, as a union-find structure; the root of a cluster is its first row."""

    def __init__(self, num_rows: int) -> None:
        self.parents = np.arange(num_rows, dtype=np.int32)

    def root(self, row: int) -> int:
        """Return the index of the first row in the cluster that contains `row`."""
        parents = self.parents
        while (parent := int(parents[row])) != row:
            parents[row] = parents[parent]
            row = parent
        return row

    def join(self, one: int, other: int) -> None:
        """Merge the clusters of two rows."""
        one, other = self.root(one), self.root(other)
        self.parents[max(one, other)] = min(one, other)

    def roots(self) -> Numbers:
        """Return, for every row, the index of the first row in its cluster."""
        parents = self.parents
        while not np.array_equal(grandparents := parents[parents], parents):
            parents = grandparents
        return parents


class Comparison:
    """Compares pairs of rows by the exact Jaccard similarity of their n-grams (shingles), and joins similar rows.

    Protected splits are those whose rows are always kept: validation and test.

    Args:
        rows: all rows: those of the protected splits, then those of the split that is deduplicated.
        shingles: hasher of the n-grams of texts.
        threshold: smallest similarity of near duplicates.
        num_protected: number of rows that belong to protected splits; these rows never join a cluster.
    """

    def __init__(self, rows: Rows, shingles: Shingles, threshold: float, num_protected: int) -> None:
        self.clusters = Clusters(rows.starts[-1])
        self.like_protected: dict[int, int] = {}  # row of this split -> a similar protected row
        self.num_compared = self.num_skipped = 0
        self._rows, self._threshold, self._num_protected = rows, threshold, num_protected
        self._shingles = functools.lru_cache(maxsize=KNOWN_ROWS)(self._shingles_of)
        self._hash_texts = shingles.hash_texts

    def compare_equal(self, bucket: list[int]) -> None:
        """Compare the first row of a bucket (rows whose words have the same hash) with each of the other rows."""
        for row in bucket[1:]:
            self._compare(bucket[0], row)

    def compare_bucket(self, bucket: list[int]) -> None:
        """Compare each row of a bucket with the rows before it in the bucket, but at most with `MAX_COMPARISONS`.

        A bucket is a list of rows that may be near duplicates.
        """
        for index, row in enumerate(bucket[1:], start=1):
            if row < self._num_protected:
                continue
            self.num_skipped += max(0, index - MAX_COMPARISONS)
            for other in bucket[max(0, index - MAX_COMPARISONS) : index]:
                self._compare(other, row)

    def extend_to_equal_rows(self, whole: Hashes) -> None:
        """Mark further rows as similar to a protected row: those with the same words as a row that is already marked.

        Args:
            whole: a hash of each row's whole text, uint64 `[rows]`; rows with the same words have the same hash.
        """
        known = {int(whole[row]): protected for row, protected in self.like_protected.items()}
        if known:
            for row in np.flatnonzero(np.isin(whole, np.array(list(known), dtype=np.uint64))).tolist():
                if row >= self._num_protected:
                    self.like_protected.setdefault(row, known[int(whole[row])])

    def one_of_each(self, roots: Numbers, lengths: Sequence[int] | None) -> Flags:
        """Select the rows to keep: one row of each cluster, and no row that is similar to a protected row.

        Args:
            roots: for each row of the split that is deduplicated, the index of the first row in its cluster. Index 0 is
                the first row of this split, so protected rows have no index.
            lengths: the length of every row, protected rows first. The longest row of each cluster is kept, or the
                first one of several longest rows. `None`: the first row of each cluster is kept.

        Returns:
            A flag for each row of the split that is deduplicated: true for a row to keep.
        """
        own = np.ones(len(roots), dtype=bool)
        own[[row - self._num_protected for row in self.like_protected]] = False
        candidates = np.flatnonzero(own).astype(np.int32)
        if lengths is not None:
            sizes = np.array(lengths, dtype=np.int64)[self._num_protected :]
            candidates = candidates[np.argsort(-sizes[candidates], kind="stable")]
        best = np.full(len(roots), -1, dtype=np.int32)
        best[roots[candidates[::-1]]] = candidates[::-1]  # the last assignment wins, which is the best candidate
        flags = np.zeros(len(roots), dtype=bool)
        flags[best[best >= 0]] = True
        return flags

    def _compare(self, one: int, other: int) -> None:
        if other < self._num_protected:
            return
        if one < self._num_protected:
            if other not in self.like_protected and self._is_similar(one, other):
                self.like_protected[other] = one
        elif self.clusters.root(one) != self.clusters.root(other) and self._is_similar(one, other):
            self.clusters.join(one, other)

    def _is_similar(self, one: int, other: int) -> bool:
        self.num_compared += 1
        shorter, longer = sorted((self._shingles(one), self._shingles(other)), key=len)
        if len(shorter) < self._threshold * len(longer):
            return False
        positions = np.searchsorted(longer, shorter)
        positions[positions == len(longer)] = 0
        both = int(np.count_nonzero(longer[positions] == shorter))
        return both >= self._threshold * (len(shorter) + len(longer) - both)

    def _shingles_of(self, row: int) -> Hashes:
        hashes, _ = self._hash_texts([compared_tokens(self._rows.text(self._rows.conversation(row)))])
        return np.unique(hashes)


def compare(sketches: Sketches, comparison: Comparison) -> None:
    """Compare all pairs of rows that may be near duplicates: those whose sketches are equal in at least one band.

    A band is a fixed slice of a MinHash sketch. Rows with the same words are compared first. Of several rows with the
    same words, only the first is then compared with other rows.
    """
    is_compared = sketches.whole != 0
    with_words = np.flatnonzero(is_compared).astype(np.int32)
    for bucket in buckets(sketches.whole[with_words], with_words):
        comparison.compare_equal(bucket)
        is_compared[bucket[1:]] = False
    compared = np.flatnonzero(is_compared).astype(np.int32)
    del with_words, is_compared
    for index in range(sketches.num_bands):
        for bucket in buckets(sketches.band(index)[compared], compared):
            comparison.compare_bucket(bucket)
    comparison.extend_to_equal_rows(sketches.whole)
