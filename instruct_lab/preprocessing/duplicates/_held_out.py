"""An index of held-out texts: their n-grams as 64-bit hashes in sorted arrays, and every text as a whole.

Memory: 16 bytes for each different n-gram (48 while they are sorted), and some 150 bytes a text.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import xxhash

from instruct_lab.data.words import compared_words
from instruct_lab.preprocessing.duplicates._ngrams import Hasher, Hashes, Integers, Numbers, batches

MAX_SIEVE_BITS = 24


@dataclasses.dataclass(frozen=True)
class TextSet:
    """A named set of held-out texts.

    Args:
        name: what the audit calls it.
        texts: gives all texts, each with a place that `text` finds it by.
        text: gives one text again.
    """

    name: str
    texts: Callable[[], Iterator[tuple[tuple[int, int], str]]]
    text: Callable[[tuple[int, int]], str]


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a row is said to hold a text: that many of its n-grams, or such a share of them; none: it does not count."""

    min_matches: int | None
    min_share: float | None

    def holds(self, matches: int, total: int) -> bool:
        """Whether so many n-grams of a text with that many are enough."""
        by_count = self.min_matches is not None and matches >= self.min_matches
        return by_count or (self.min_share is not None and matches >= self.min_share * total)


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is looked for.

    Args:
        n: words in an n-gram.
        min_words: texts of fewer words are left out.
        min_words_inside: texts of fewer than n words, and not of fewer than these, are an n-gram of their own.
        max_texts: n-grams that more texts share are left out; none: all count.
    """

    n: int
    min_words: int
    min_words_inside: int
    max_texts: int | None

    def size(self, num_words: int) -> int | None:
        """The words in the n-grams by which a text of that many words is found; none: only as a whole."""
        if num_words >= self.n:
            return self.n
        return num_words if num_words >= self.min_words_inside else None


class Postings:
    """Which texts hold each n-gram: sorted arrays, 16 bytes for each different n-gram.

    Args:
        hashes: n-grams of texts.
        texts: the text that each is of.
        max_texts: n-grams that more texts share are left out; none: all count.
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
        """The places of hashes that are known, and their numbers."""
        places = np.flatnonzero(self._sieve[hashes >> self._shift])
        numbers = np.searchsorted(self.hashes, hashes[places])
        numbers[numbers == len(self.hashes)] = 0
        known = self.hashes[numbers] == hashes[places] if len(self.hashes) else np.zeros(0, dtype=bool)
        return places[known], numbers[known]

    def holders(self, numbers: Integers) -> tuple[Numbers, Integers]:
        """The texts that hold n-grams; and, for each text so given, the place of its n-gram among the numbers."""
        starts = self._starts[numbers]
        counts = self._starts[numbers + 1] - starts
        ngrams = np.repeat(np.arange(len(numbers)), counts)
        within = np.arange(len(ngrams)) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.texts[starts[ngrams] + within], ngrams


WHOLE = Rule(min_matches=1, min_share=None)
"""For n-grams that are whole texts."""


class HeldOut:
    """Held-out texts, and which of them a row holds.

    Args:
        sets: the texts; a text that stands there twice counts as one, of the set that is named first.
        limits: what is looked for.
        rule: how much of a text is enough.
    """

    def __init__(self, sets: Sequence[TextSet], limits: Limits, rule: Rule) -> None:
        self.sets, self._limits, self._rule = sets, limits, rule
        self._hasher = Hasher()
        self._whole: dict[int, int] = {}  # hash of all words: the text's number
        self._lengths: set[int] = set()
        self._set_of, self._rows, self._places = array("H"), array("I"), array("I")
        collected: dict[int, list[tuple[Hashes, Numbers]]] = defaultdict(list)
        for batch in batches(self._new_texts()):
            self._collect(batch, collected)
        self._postings = {}
        self.totals = np.zeros(len(self._rows), dtype=np.int64)
        for size in sorted(collected):
            hashes, texts = map(np.concatenate, zip(*collected.pop(size), strict=True))
            self._postings[size] = Postings(hashes, texts, limits.max_texts)
            self.totals += np.bincount(self._postings[size].texts, minlength=len(self._rows))
        self.found = np.zeros(len(self._rows), dtype=bool)

    def _new_texts(self) -> Iterator[list[str]]:
        for number, held_out in enumerate(self.sets):
            for (row, place), text in held_out.texts():
                tokens = compared_words(text)
                key = whole_hash(tokens)
                if len(tokens) < max(1, self._limits.min_words) or key in self._whole:
                    continue
                self._whole[key] = len(self._rows)
                self._lengths.add(len(tokens))
                self._set_of.append(number)
                self._rows.append(row)
                self._places.append(place)
                yield tokens

    def _collect(self, batch: list[list[str]], collected: dict[int, list[tuple[Hashes, Numbers]]]) -> None:
        first = len(self._rows) - len(batch)
        by_size: dict[int, list[int]] = defaultdict(list)
        for place, tokens in enumerate(batch):
            if (size := self._limits.size(len(tokens))) is not None:
                by_size[size].append(place)
        for size, places in by_size.items():
            hashes, offsets = self._hasher.texts([batch[place] for place in places]).ngrams(size)
            texts = np.repeat(np.array(places, dtype=np.int32) + np.int32(first), np.diff(offsets))
            collected[size].append((hashes, texts))

    def num_texts(self) -> dict[str, int]:
        """How many different texts each set holds."""
        counts = Counter(self._set_of)
        return {held_out.name: counts[number] for number, held_out in enumerate(self.sets)}

    def num_found(self) -> dict[str, int]:
        """How many different texts of each set a row was found to hold."""
        counts = Counter(self._set_of[int(text)] for text in np.flatnonzero(self.found))
        return {held_out.name: counts[number] for number, held_out in enumerate(self.sets)}

    def num_ngrams(self) -> dict[str, int]:
        """How many different n-grams are looked for, and how many are not since too many texts share them."""
        postings = self._postings.values()
        return {
            "looked for": sum(len(known.hashes) for known in postings),
            "left out as shared": sum(known.num_shared for known in postings),
        }

    def equal(self, units: Iterable[list[str]]) -> int | None:
        """The first text that is, as a whole, one of a row's units; as lists of words."""
        for unit in units:
            if len(unit) in self._lengths:
                text = self._whole.get(whole_hash(unit))
                if text is not None and compared_words(self._text(text)) == unit:
                    self.found[text] = True
                    return text
        return None

    def overlapping(self, rows: list[list[str]]) -> dict[int, int]:
        """The rows that hold n-grams enough of a text, with the text that they hold the most of.

        Args:
            rows: the words of each row.
        """
        hashed = self._hasher.texts(rows)
        found: dict[int, int] = {}
        for size, postings in self._postings.items():
            hashes, offsets = hashed.ngrams(size)
            places, numbers = postings.find(hashes)
            in_rows = np.searchsorted(offsets, places, side="right") - 1
            for row in np.unique(in_rows).tolist():
                mine = in_rows == row
                different, first = np.unique(numbers[mine], return_index=True)
                ngrams = [rows[row][place : place + size] for place in (places[mine][first] - offsets[row]).tolist()]
                text = self._most_held(ngrams, *postings.holders(different), size)
                if text is not None:
                    found[row] = text
        return found

    def _most_held(self, ngrams: list[list[str]], holders: Numbers, held: Integers, size: int) -> int | None:
        """The text that a row holds the most of, and enough.

        Args:
            ngrams: the row's n-grams that are known.
            holders: texts that hold them.
            held: for each of these, which of the n-grams it holds.
            size: words in an n-gram; one shorter than n is a whole text.
        """
        rule = self._rule if size == self._limits.n else WHOLE
        texts, matches = np.unique(holders, return_counts=True)
        most = None
        for place in np.argsort(-matches, kind="stable").tolist():
            text, total = int(texts[place]), int(self.totals[texts[place]])
            if rule.holds(int(matches[place]), total):
                shared = [ngrams[number] for number in held[holders == text].tolist()]
                if self._verified(shared, text, rule):
                    self.found[text] = True
                    most = text if most is None else most
        return most

    def _verified(self, ngrams: list[list[str]], text: int, rule: Rule) -> bool:
        """Whether n-grams enough are in the text word for word, and not by their hashes alone."""
        whole = f" {' '.join(compared_words(self._text(text)))} "
        total, count = int(self.totals[text]), 0
        for ngram in ngrams:
            count += f" {' '.join(ngram)} " in whole
            if count and rule.holds(count, total):
                return True
        return False

    def name(self, text: int) -> str:
        """The name of the set that holds a text."""
        return self.sets[self._set_of[text]].name

    def _text(self, text: int) -> str:
        return self.sets[self._set_of[text]].text((self._rows[text], self._places[text]))


def whole_hash(tokens: list[str]) -> int:
    """The hash of all words of a text."""
    return xxhash.xxh3_64_intdigest(" ".join(tokens).encode("utf-8", "surrogatepass"))


def of_rows(name: str, rows: Sequence[Any], texts_of: Callable[[Any], list[str]]) -> TextSet:
    """The texts of rows that can be read again by their number."""
    return TextSet(
        name,
        lambda: (((row, place), text) for row, value in enumerate(rows) for place, text in enumerate(texts_of(value))),
        lambda where: texts_of(rows[where[0]])[where[1]],
    )
