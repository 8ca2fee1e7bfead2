"""Word lists of the bias audit (terms for groups of people, positive and negative words), and a search for them."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from instruct_lab.data.words import compared_words

FILE = Path(__file__).with_name("bias_terms.json")
LANGUAGE_WORDS = 300
"""Number of words at the start of a text from which its language is detected."""

Group = tuple[str, str]
"""The name of a category, such as gender, and of one group of people in it."""


@dataclasses.dataclass(frozen=True)
class Phrases:
    """A search for words and phrases in texts; at each position, only the longest match is found.

    Args:
        by_first: for each first word, the phrases that begin with it, longest first. Each phrase is a list of words,
            paired with its meaning: any object, such as the group of people to which the phrase refers. If the meaning
            is `None`, `find` skips the phrase and all shorter phrases within it.
    """

    by_first: Mapping[str, list[tuple[list[str], object]]]

    @classmethod
    def of(cls, meanings: Mapping[str, object]) -> Phrases:
        """Build a search from a dictionary of phrases and their meanings."""
        by_first: dict[str, list[tuple[list[str], object]]] = {}
        for phrase, meaning in meanings.items():
            tokens = compared_words(phrase)
            by_first.setdefault(tokens[0], []).append((tokens, meaning))
        for known in by_first.values():
            known.sort(key=lambda phrase: -len(phrase[0]))
        return cls(by_first)

    @functools.cached_property
    def first_words(self) -> frozenset[str]:
        """The first words of all phrases."""
        return frozenset(self.by_first)

    def find(self, tokens: list[str]) -> Iterator[tuple[int, int, object]]:
        """Yield the phrases in a list of words, without overlaps.

        Each item is a tuple: the index of the phrase's first word in `tokens`, the index after its last word, and the
        phrase's meaning.
        """
        if self.first_words.isdisjoint(tokens):
            return
        position = 0
        while position < len(tokens):
            step = 1
            for phrase, meaning in self.by_first.get(tokens[position], ()):
                if tokens[position : position + len(phrase)] == phrase:
                    if meaning is not None:
                        yield position, position + len(phrase), meaning
                    step = len(phrase)
                    break
            position += step


@dataclasses.dataclass(frozen=True)
class Terms:
    """The words of one language that the bias audit uses.

    They are terms for groups of people, positive and negative words (which have the meaning `True` or `False` in
    `sentiment`), and function words, by which the language of a text is detected.
    """

    groups: list[Phrases]  # one search per category, because `old woman` (age) contains a term of gender
    sentiment: Phrases
    function_words: frozenset[str]


@functools.cache
def load_lists() -> dict[str, dict[str, object]]:
    """Load the word lists that come with this package, keyed by language."""
    lists: dict[str, dict[str, object]] = json.loads(FILE.read_text(encoding="utf-8"))
    return lists


def load_terms(
    languages: list[str], categories: list[str], more: Mapping[str, Mapping[str, list[str]]]
) -> dict[str, Terms]:
    """Load the words that the bias audit uses, keyed by language.

    Args:
        languages: codes of the languages.
        categories: categories of groups of people, such as `gender`. Their terms are loaded from this package's lists.
            The terms of categories in `more` are loaded too.
        more: terms to add: lists of terms keyed by category, then by group of people. They are counted in every
            language.
    """
    terms = {}
    for language in languages:
        lists = load_lists()[language]
        no_terms: dict[str, object] = dict.fromkeys(_word_list(lists, "no terms"))
        groups: dict[str, dict[str, object]] = {}
        for source in (lists["groups"], more):
            assert isinstance(source, Mapping)
            for category, by_group in source.items():
                if category in categories or category in more:
                    meanings = groups.setdefault(category, dict(no_terms))
                    meanings |= {term: (category, group) for group, known in by_group.items() for term in known}
        sentiment = dict.fromkeys(_word_list(lists, "positive"), True) | dict.fromkeys(
            _word_list(lists, "negative"), False
        )
        function_words = frozenset(_word_list(lists, "function words"))
        terms[language] = Terms([Phrases.of(known) for known in groups.values()], Phrases.of(sentiment), function_words)
    return terms


def _word_list(lists: Mapping[str, object], name: str) -> list[str]:
    words = lists[name]
    assert isinstance(words, list)
    return words


def language_of(tokens: list[str], known: Mapping[str, Terms]) -> str:
    """Detect the language of a text: Chinese by its characters, other languages by function words.

    If several languages fit equally well, the first one in `known` is returned. The language decides which terms are
    counted, because words of the same spelling can differ in meaning: French `sale` means dirty.
    """
    if len(known) == 1:
        return next(iter(known))
    head = tokens[:LANGUAGE_WORDS]
    counts = {language: sum(map(terms.function_words.__contains__, head)) for language, terms in known.items()}
    if "zh" in known:
        counts["zh"] = sum("\u4e00" <= token <= "\u9fff" for token in head)
    return max(counts, key=counts.__getitem__)
