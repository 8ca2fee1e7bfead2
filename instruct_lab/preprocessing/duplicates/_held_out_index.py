"""An index of held-out texts: their n-grams as 64-bit hashes in sorted arrays, and a hash of every whole text.

Memory: 16 bytes per distinct n-gram (48 bytes while the index is built), and about 150 bytes per text.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import xxhash

from instruct_lab.data.words import compared_tokens
from instruct_lab.preprocessing.duplicates._ngram_hashes import Hasher, Hashes, Integers, Numbers, in_batches

MAX_SIEVE_BITS = 24


@dataclasses.dataclass(frozen=True)
class TextSet:
    """A named set of held-out texts.

    Args:
        name: name of the set in the audit.
        texts: function that yields a pair for each text: its address (two integers), and the text.
        text: function that reads the text at an address again.
    """

    name: str
    texts: Callable[[], Iterator[tuple[tuple[int, int], str]]]
    text: Callable[[tuple[int, int]], str]


@dataclasses.dataclass(frozen=True)
class Rule:
    """The rule that decides whether a row overlaps with a held-out text, from the text's n-grams in the row.

    The row overlaps if it contains at least `min_matches` of the text's n-grams, or at least the fraction `min_share`
    of them. A limit of `None` is not used.
    """

    min_matches: int | None
    min_share: float | None

    def is_met(self, matches: int, total: int) -> bool:
        """Whether a row that contains `matches` of a text's `total` n-grams overlaps with the text."""
        by_count = self.min_matches is not None and matches >= self.min_matches
        return by_count or (self.min_share is not None and matches >= self.min_share * total)


@dataclasses.dataclass(frozen=True)
class Limits:
    """Settings that decide which n-grams of the held-out texts are searched for in rows.

    Args:
        n: number of words in an n-gram.
        min_words: texts with fewer words are ignored.
        min_words_inside: a text with at least this many words, but fewer than n, is searched for as one n-gram. A text
            with fewer words is only compared as a whole, with messages, prompts and conversations.
        max_texts: n-grams that occur in more texts than this are ignored; `None` means no limit.
    """

    n: int
    min_words: int
    min_words_inside: int
    max_texts: int | None

    def size(self, num_words: int) -> int | None:
        """Return the number of words in a text's n-grams; `None` if it is too short to be searched inside messages."""
        if num_words >= self.n:
            return self.n
        return num_words if num_words >= self.min_words_inside else None


class Postings:
    """An index that finds the held-out texts that contain an n-gram.

    It consists of sorted arrays, and needs 16 bytes per distinct n-gram.

    Args:
        hashes: hashes of the n-grams of all texts.
        texts: for each of these n-grams, the index of its text.
        max_texts: n-grams that occur in more texts than this are ignored; `None` means no limit.
    """

    def __init__(self, hashes: Hashes, texts: Numbers, max_texts: int | None) -> None:
        order = np.lexsort((texts, hashes))
        hashes, texts = hashes[order], texts[order]
        once = np.ones(len(hashes), dtype=bool)
        once[1:] = (hashes[1:] != hashes[:-1]) | (texts[1:] != texts[:-1])
        hashes, texts = hashes[once], texts[once]
        _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        self.num_shared = 0
        if max_texts is not None:
            self.num_shared = int(np.count_nonzero(counts > max_texts))
            rare = counts[inverse] <= max_texts
            hashes, texts = hashes[rare], texts[rare]
        self.hashes, starts = np.unique(hashes, return_index=True)
        self._starts = np.append(starts, len(hashes)).astype(np.int32)
        self.texts = texts
        bits = min(MAX_SIEVE_BITS, max(10, (8 * len(self.hashes)).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._sieve = np.zeros(1 << bits, dtype=bool)
        self._sieve[self.hashes >> self._shift] = True

    def find(self, hashes: Hashes) -> tuple[Integers, Integers]:
        """Look up hashes of n-grams in this index.

        Returns:
            Two arrays with one element for each hash that the index contains: the hash's position in the argument
            `hashes`, and its position in the index.
        """
        positions = np.flatnonzero(self._sieve[hashes >> self._shift])
        indices = np.searchsorted(self.hashes, hashes[positions])
        indices[indices == len(self.hashes)] = 0
        known = self.hashes[indices] == hashes[positions] if len(self.hashes) else np.zeros(0, dtype=bool)
        return positions[known], indices[known]

    def texts_of(self, indices: Integers) -> tuple[Numbers, Integers]:
        """Find all pairs of an n-gram and a text that contains it.

        Args:
            indices: indices of n-grams in this index, as `find` returns them.

        Returns:
            Two arrays with one element for each pair: the index of the text, and the n-gram's position in `indices`.
        """
        starts = self._starts[indices]
        counts = self._starts[indices + 1] - starts
        ngrams = np.repeat(np.arange(len(indices)), counts)
        within = np.arange(len(ngrams)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.texts[starts[ngrams] + within], ngrams


WHOLE = Rule(min_matches=1, min_share=None)
"""The rule for a text that is a single n-gram because it is short: a row that contains this n-gram overlaps with it."""


class HeldOutIndex:
    """An index of held-out texts that finds the texts with which a row overlaps.

    Args:
        sets: sets of held-out texts; a text that occurs several times counts only once, for the first set that has it.
        limits: settings that decide which n-grams are searched for.
        rule: the number or the share of a text's n-grams that a row must contain to overlap with the text.
    """

    def __init__(self, sets: Sequence[TextSet], limits: Limits, rule: Rule) -> None:
        self.sets, self._limits, self._rule = sets, limits, rule
        self._hasher = Hasher()
        self._whole: dict[int, int] = {}  # hash of all words -> index of the text
        self._lengths: set[int] = set()
        self._set_of, self._rows, self._parts = array("H"), array("I"), array("I")
        collected: dict[int, list[tuple[Hashes, Numbers]]] = defaultdict(list)
        for batch in in_batches(self._new_texts()):
            self._collect(batch, collected)
        self._postings = {}
        self.totals = np.zeros(len(self._rows), dtype=np.int64)
        for size in sorted(collected):
            hashes, texts = map(np.concatenate, zip(*collected.pop(size), strict=True))
            self._postings[size] = Postings(hashes, texts, limits.max_texts)
            self.totals += np.bincount(self._postings[size].texts, minlength=len(self._rows))
        self.found = np.zeros(len(self._rows), dtype=bool)

    def _new_texts(self) -> Iterator[list[str]]:
        for index, held_out in enumerate(self.sets):
            for (row, part), text in held_out.texts():
                tokens = compared_tokens(text)
                key = hash_words(tokens)
                if len(tokens) < max(1, self._limits.min_words) or key in self._whole:
                    continue
                self._whole[key] = len(self._rows)
                self._lengths.add(len(tokens))
                self._set_of.append(index)
                self._rows.append(row)
                self._parts.append(part)
                yield tokens

    def _collect(self, batch: list[list[str]], collected: dict[int, list[tuple[Hashes, Numbers]]]) -> None:
        first = len(self._rows) - len(batch)
        by_size: dict[int, list[int]] = defaultdict(list)
        for index, tokens in enumerate(batch):
            if (size := self._limits.size(len(tokens))) is not None:
                by_size[size].append(index)
        for size, indices in by_size.items():
            hashes, offsets = self._hasher.texts([batch[index] for index in indices]).ngrams(size)
            texts = np.repeat(np.array(indices, dtype=np.int32) + np.int32(first), np.diff(offsets))
            collected[size].append((hashes, texts))

    def num_texts(self) -> dict[str, int]:
        """Return the number of distinct texts in each set, keyed by the set's name."""
        counts = Counter(self._set_of)
        return {held_out.name: counts[index] for index, held_out in enumerate(self.sets)}

    def num_found(self) -> dict[str, int]:
        """Return how many distinct texts of each set overlap with a row so far, keyed by the set's name."""
        counts = Counter(self._set_of[int(text)] for text in np.flatnonzero(self.found))
        return {held_out.name: counts[index] for index, held_out in enumerate(self.sets)}

    def num_ngrams(self) -> dict[str, int]:
        """Return the number of distinct n-grams that are searched for, and of those that are not searched for.

        An n-gram is not searched for (`left out as shared`) if more than `max_texts` held-out texts contain it.
        """
        postings = self._postings.values()
        return {
            "looked for": sum(len(known.hashes) for known in postings),
            "left out as shared": sum(known.num_shared for known in postings),
        }

    def find_equal(self, units: Iterable[list[str]]) -> int | None:
        """Return the index of a held-out text that equals part of a row; `None` if there is none.

        Args:
            units: the parts of the row that are compared, such as each message. Each part is a list of words.
        """
        for unit in units:
            if len(unit) in self._lengths:
                text = self._whole.get(hash_words(unit))
                if text is not None and compared_tokens(self._text(text)) == unit:
                    self.found[text] = True
                    return text
        return None

    def find_overlaps(self, rows: list[list[str]]) -> dict[int, int]:
        """Find the rows that share enough n-grams with a held-out text.

        Args:
            rows: the words of each row.

        Returns:
            For each such row, keyed by its index, the index of the text with which it shares the most n-grams. Texts
            with longer n-grams take precedence.
        """
        hashed = self._hasher.texts(rows)
        found: dict[int, int] = {}
        for size, postings in self._postings.items():
            hashes, offsets = hashed.ngrams(size)
            positions, indices = postings.find(hashes)
            in_rows = np.searchsorted(offsets, positions, side="right") - 1
            for row in np.unique(in_rows).tolist():
                in_row = in_rows == row
                distinct, first = np.unique(indices[in_row], return_index=True)
                starts = (positions[in_row][first] - offsets[row]).tolist()
                ngrams = [rows[row][start : start + size] for start in starts]
                text = self._best_match(ngrams, *postings.texts_of(distinct), size)
                if text is not None:
                    found[row] = text
        return found

    def _best_match(self, ngrams: list[list[str]], texts: Numbers, shared: Integers, size: int) -> int | None:
        """Return the index of the text that shares the most n-grams with a row; `None` if no text shares enough.

        Every text that shares enough n-grams with the row is marked as found, so that `num_found` counts it.

        Args:
            ngrams: the row's n-grams that are in the index.
            texts: for each pair of one of these n-grams and a text that contains it, the index of the text.
            shared: for each of these pairs, the position of the n-gram in `ngrams`.
            size: number of words in each n-gram. If it is less than the setting n, the n-grams come from short texts,
                each of which is a single n-gram.
        """
        rule = self._rule if size == self._limits.n else WHOLE
        candidates, matches = np.unique(texts, return_counts=True)
        best = None
        for index in np.argsort(-matches, kind="stable").tolist():
            text, total = int(candidates[index]), int(self.totals[candidates[index]])
            if rule.is_met(int(matches[index]), total):
                common = [ngrams[position] for position in shared[texts == text].tolist()]
                if self._is_confirmed(common, text, rule):
                    self.found[text] = True
                    best = text if best is None else best
        return best

    def _is_confirmed(self, ngrams: list[list[str]], text: int, rule: Rule) -> bool:
        """Whether a row still overlaps with a text if n-grams are compared by their words instead of their hashes.

        This is necessary because different n-grams can have equal hashes.

        Args:
            ngrams: the row's n-grams whose hashes are those of n-grams in the text.
            text: index of the text.
            rule: the rule that decides which number or share of the text's n-grams is enough.
        """
        whole = f" {' '.join(compared_tokens(self._text(text)))} "
        total, count = int(self.totals[text]), 0
        for ngram in ngrams:
            count += f" {' '.join(ngram)} " in whole
            if count and rule.is_met(count, total):
                return True
        return False

    def name(self, text: int) -> str:
        """Return the name of the set that contains a text."""
        return self.sets[self._set_of[text]].name

    def _text(self, text: int) -> str:
        return self.sets[self._set_of[text]].text((self._rows[text], self._parts[text]))


def hash_words(tokens: list[str]) -> int:
    """Return one hash of all words of a text."""
    return xxhash.xxh3_64_intdigest(" ".join(tokens).encode("utf-8", "surrogatepass"))


def text_set(name: str, rows: Sequence[Any], texts_of: Callable[[Any], list[str]]) -> TextSet:
    """Build a set of held-out texts from rows.

    A text's address is the index of its row, and the text's index among the texts of this row.

    Args:
        name: name of the set.
        rows: the rows, such as conversations.
        texts_of: function that returns the texts of a row.
    """
    return TextSet(
        name,
        lambda: (((row, part), text) for row, value in enumerate(rows) for part, text in enumerate(texts_of(value))),
        lambda address: texts_of(rows[address[0]])[address[1]],
    )
