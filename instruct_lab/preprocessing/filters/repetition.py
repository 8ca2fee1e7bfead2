"""Filtering by repetition within a text."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Part, Splits, Step, filter_rows, part_text, train_only
from instruct_lab.preprocessing.filters.words import split_words

Share = Annotated[float, Field(ge=0, le=1)] | None
TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)
LETTER_OR_DIGIT = re.compile(r"[^\W_]")


@component
class Repetition(Step):
    """Drops conversations whose text repeats lines, paragraphs, sequences of words (n-grams) or single characters.

    A line, paragraph or n-gram is a duplicate if it occurred earlier in the text; the first occurrence is no duplicate.
    In shares of characters, white space around lines and, for n-grams, between words is not counted. A character in
    several n-grams is counted once. Lines without a letter or digit (a closing brace, a ruler) are ignored. In scripts
    without spaces, each character is a word. Time and memory grow linearly with the length of the text. Source: the
    repetition rules of Gopher (Rae et al., 2021, table A1), whose thresholds are for web pages.
    """

    row_by_row: ClassVar[bool] = True

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    of: Part = "answer"  # the part that is examined
    judged_from_words: Annotated[int, Field(ge=0)] = 30  # to texts with fewer words, only max_character_run applies
    max_duplicate_lines: Share = None  # largest share of lines that are duplicates; null: no bound, here and below
    max_duplicate_line_characters: Share = None  # largest share of characters in duplicate lines
    max_duplicate_paragraphs: Share = None  # largest share of duplicates among paragraphs (between empty lines)
    max_duplicate_paragraph_characters: Share = None  # largest share of characters in duplicate paragraphs
    max_top_2gram: Share = None  # largest share of characters in the most frequent pair of words
    max_top_3gram: Share = None  # largest share of characters in the most frequent three words
    max_top_4gram: Share = None  # largest share of characters in the most frequent four words
    max_duplicate_5gram: Share = None  # largest share of characters in duplicate sequences of five words
    max_duplicate_6gram: Share = None  # largest share of characters in duplicate sequences of six words
    max_duplicate_7gram: Share = None  # largest share of characters in duplicate sequences of seven words
    max_duplicate_8gram: Share = None  # largest share of characters in duplicate sequences of eight words
    max_duplicate_9gram: Share = None  # largest share of characters in duplicate sequences of nine words
    max_duplicate_10gram: Share = None  # largest share of characters in duplicate sequences of ten words
    max_character_run: Annotated[int, Field(ge=1)] | None = None  # maximum length of a run of one letter or digit

    def __post_init__(self) -> None:
        """Refuse settings without any limit, with which no row would be dropped."""
        if self.max_character_run is None and not (self._line_bounds() or self._ngram_bounds()):
            raise Refusal("max_duplicate_lines", "no bound is set, so no row would be dropped: set one")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations that exceed none of the limits in the step's fields.

        The audit counts each dropped conversation once, under the first limit that it exceeds.
        """
        lines, ngrams = self._line_bounds(), self._ngram_bounds()
        runs = self.max_character_run
        run = re.compile(rf"([^\W_])\1{{{runs},}}") if runs is not None else None

        def reason(conversation: Conversation) -> str | None:
            text = part_text(conversation, self.of)
            if run is not None and run.search(text):
                return f"{self.of} with one character over {runs} times in a row"
            words = split_words(text)
            if len(words) < self.judged_from_words:
                return None
            over = _over(line_shares(text) if lines and "\n" in text else {}, lines)
            return over or _over(ngram_shares(words, ngrams), ngrams)

        def _over(shares: dict[str, float], bounds: dict[str, float]) -> str | None:
            name = next((name for name, bound in bounds.items() if shares.get(name, 0) > bound), None)
            return None if name is None else f"{self.of} over {bounds[name]:g} in {name.replace('_', ' ')}"

        return filter_rows(conversations, context, reason)

    def _line_bounds(self) -> dict[str, float]:
        names = [f"duplicate_{what}" for what in ("lines", "line_characters", "paragraphs", "paragraph_characters")]
        return self._set(names)

    def _ngram_bounds(self) -> dict[str, float]:
        return self._set([f"top_{n}gram" for n in TOP] + [f"duplicate_{n}gram" for n in DUPLICATE])

    def _set(self, names: list[str]) -> dict[str, float]:
        bounds = {name: getattr(self, f"max_{name}") for name in names}
        return {name: bound for name, bound in bounds.items() if bound is not None}


def line_shares(text: str) -> dict[str, float]:
    """Compute the share of duplicates among lines and paragraphs, and the share of characters in these duplicates.

    The shares are keyed by name, such as `duplicate_lines` or `duplicate_line_characters`.
    """
    lines = [line.strip() for line in text.split("\n")]
    paragraphs = ["\n".join(block) for filled, block in itertools.groupby(lines, key=bool) if filled]
    shares = {}
    for name, parts in (("line", lines), ("paragraph", paragraphs)):
        compared = [part for part in parts if LETTER_OR_DIGIT.search(part)]
        seen: set[str] = set()
        repeated = [part for part in compared if part in seen or seen.add(part)]  # type: ignore[func-returns-value]
        shares[f"duplicate_{name}s"] = len(repeated) / max(1, len(compared))
        shares[f"duplicate_{name}_characters"] = sum(map(len, repeated)) / max(1, sum(map(len, compared)))
    return shares


def ngram_shares(words: list[str], wanted: dict[str, float] | None = None) -> dict[str, float]:
    """Compute the shares of characters in repeated n-grams, keyed by name; shares of 0 are omitted.

    The `top_` shares count the characters in all occurrences of the text's most frequent n-gram. The `duplicate_`
    shares count the characters in all n-grams that occurred before in the text. An n-gram can repeat only if its first
    n-1 words repeat. So for each n, only n-grams whose first n-1 words repeat are examined, and the search ends at the
    first n for which nothing repeats: in ordinary text, at n = 2 or 3.

    Args:
        words: the words of a text.
        wanted: names of the shares to compute (`top_2gram` to `top_4gram`, `duplicate_5gram` to `duplicate_10gram`);
            `None`: all.
    """
    names = {f"top_{n}gram": n for n in TOP} | {f"duplicate_{n}gram": n for n in DUPLICATE}
    requested = {n: name for name, n in names.items() if wanted is None or name in wanted}
    numbers: dict[str, int] = {}
    ids = [numbers.setdefault(word, len(numbers)) for word in words]
    ends = [0, *itertools.accumulate(map(len, words))]  # characters before each word
    total, size = ends[-1], len(numbers)
    shares: dict[str, float] = {}
    starts, grams = list(range(len(ids))), ids  # start and id of each repeated n-gram
    for n in range(2, max(requested, default=0) + 1):
        while starts and starts[-1] + n > len(ids):
            starts.pop()
        keys = [gram * size + ids[start + n - 1] for start, gram in zip(starts, grams, strict=False)]
        counts = Counter(keys)
        if len(counts) == len(keys):
            break
        if n in requested:
            covered = _in_top if n in TOP else _in_duplicates
            shares[requested[n]] = covered(starts, keys, counts, ends, n) / total
        rank = {key: number for number, (key, count) in enumerate(counts.items()) if count > 1}
        starts, grams = (
            [start for start, key in zip(starts, keys, strict=True) if key in rank],
            [rank[key] for key in keys if key in rank],
        )
    return shares


def _in_top(starts: list[int], keys: list[int], counts: Counter[int], ends: list[int], n: int) -> int:
    """Count the characters in all occurrences of the most frequent n-gram.

    If several n-grams are most frequent, the one that covers the most characters is used.

    Args:
        starts: index of the first word of each repeated n-gram.
        keys: id of each of these n-grams; equal n-grams have equal ids.
        counts: number of occurrences of each id.
        ends: number of characters before each word, without white space; the last item is the number in all words.
        n: number of words in an n-gram.
    """
    most = max(counts.values())
    top: dict[int, list[int]] = {key: [] for key, count in counts.items() if count == most}
    for start, key in zip(starts, keys, strict=True):
        if key in top:
            top[key].append(start)
    return max(_covered(of_one, ends, n) for of_one in top.values())


def _in_duplicates(starts: list[int], keys: list[int], counts: Counter[int], ends: list[int], n: int) -> int:
    """Count the characters in n-grams that occurred before in the text.

    Args:
        starts: index of the first word of each repeated n-gram.
        keys: id of each of these n-grams; equal n-grams have equal ids.
        counts: not used; it is here because `_in_top` and this function are called in the same way.
        ends: number of characters before each word, without white space; the last item is the number in all words.
        n: number of words in an n-gram.
    """
    seen: set[int] = set()
    repeats = [start for start, key in zip(starts, keys, strict=True) if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
    return _covered(repeats, ends, n)


def _covered(starts: list[int], ends: list[int], n: int) -> int:
    """Count the characters of n-grams that may overlap; a character in several n-grams counts once.

    Args:
        starts: index of the first word of each n-gram, in ascending order.
        ends: number of characters before each word, without white space; the last item is the number in all words.
        n: number of words in an n-gram.
    """
    characters = reached = 0
    for start in starts:
        characters += ends[start + n] - ends[max(start, reached)]
        reached = start + n
    return characters
