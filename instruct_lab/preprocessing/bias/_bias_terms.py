"""The terms of groups and the sentiment words that the bias audit counts, and where they stand in a text."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from instruct_lab.data.words import compared_words

FILE = Path(__file__).with_name("bias_terms.json")
LANGUAGES = ("en", "fr", "zh")
CATEGORIES = ("gender", "nationality and ethnicity", "religion", "age", "disability", "orientation")
LOOKED_AT = 300
"""Words whose language is looked at."""

Group = tuple[str, str]
"""A category and a group of it."""


@dataclasses.dataclass(frozen=True)
class Phrases:
    """Words and phrases, by their first word; the longest that stands at a place is the one found there.

    Args:
        by_first: first word, the phrases that begin with it (longest first) and what each stands for; none: nothing.
    """

    by_first: Mapping[str, list[tuple[list[str], object]]]

    @classmethod
    def of(cls, meanings: Mapping[str, object]) -> Phrases:
        """Phrases as text, with what each stands for."""
        by_first: dict[str, list[tuple[list[str], object]]] = {}
        for phrase, meaning in meanings.items():
            tokens = compared_words(phrase)
            by_first.setdefault(tokens[0], []).append((tokens, meaning))
        for known in by_first.values():
            known.sort(key=lambda phrase: -len(phrase[0]))
        return cls(by_first)

    @functools.cached_property
    def first_words(self) -> frozenset[str]:
        """The words that a phrase begins with."""
        return frozenset(self.by_first)

    def find(self, tokens: list[str]) -> Iterator[tuple[int, int, object]]:
        """Where phrases begin and end, and what they stand for; none inside another."""
        if self.first_words.isdisjoint(tokens):
            return
        by_first, place = self.by_first, 0
        while place < len(tokens):
            step = 1
            for phrase, meaning in by_first.get(tokens[place], ()):
                if tokens[place : place + len(phrase)] == phrase:
                    if meaning is not None:
                        yield place, place + len(phrase), meaning
                    step = len(phrase)
                    break
            place += step


@dataclasses.dataclass(frozen=True)
class Terms:
    """What is counted in a language: terms of groups, and positive (True) and negative (False) words."""

    groups: list[Phrases]  # one for each category: `old woman` is a term of age, and `woman` one of gender
    sentiment: Phrases
    function_words: frozenset[str]


@functools.cache
def shipped() -> dict[str, dict[str, object]]:
    """The lists of this package, by language."""
    told: dict[str, dict[str, object]] = json.loads(FILE.read_text(encoding="utf-8"))
    return told


def terms(languages: list[str], categories: list[str], more: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Terms]:
    """The terms of each language.

    Args:
        languages: those wanted.
        categories: those wanted.
        more: further terms by category and group; counted in every language.
    """
    found = {}
    for language in languages:
        told = shipped()[language]
        no_terms: dict[str, object] = dict.fromkeys(_listed(told, "no terms"))
        groups: dict[str, dict[str, object]] = {}
        for source in (told["groups"], more):
            assert isinstance(source, Mapping)
            for category, by_group in source.items():
                if category in categories or category in more:
                    meanings = groups.setdefault(category, dict(no_terms))
                    meanings |= {term: (category, group) for group, known in by_group.items() for term in known}
        sentiment = dict.fromkeys(_listed(told, "positive"), True) | dict.fromkeys(_listed(told, "negative"), False)
        function_words = frozenset(_listed(told, "function words"))
        found[language] = Terms([Phrases.of(known) for known in groups.values()], Phrases.of(sentiment), function_words)
    return found


def _listed(told: Mapping[str, object], name: str) -> list[str]:
    known = told[name]
    assert isinstance(known, list)
    return known


def language_of(tokens: list[str], known: Mapping[str, Terms]) -> str:
    """The language whose terms are looked for: Chinese by its characters, others by their function words.

    The first of the languages known where nothing tells. Words of one language are no terms of another: `sale` is
    dirty in French, and `content` is glad.
    """
    if len(known) == 1:
        return next(iter(known))
    head = tokens[:LOOKED_AT]
    counts = {language: sum(map(terms.function_words.__contains__, head)) for language, terms in known.items()}
    if "zh" in known:
        counts["zh"] = sum("\u4e00" <= token <= "\u9fff" for token in head)
    return max(counts, key=counts.__getitem__)
