"""How often groups of people are spoken of, and how."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Splits, Step, train_alone

if TYPE_CHECKING:
    from instruct_lab.preprocessing.bias._bias_terms import Group, Terms

Category = Literal["gender", "nationality and ethnicity", "religion", "age", "disability", "orientation"]
WordList = Literal["en", "fr", "zh"]
Speaker = Literal["system", "user", "assistant", "tool", "reference"]
ALL_SPEAKERS: tuple[Speaker, ...] = ("system", "user", "assistant", "tool", "reference")
DIGITS = 3


def all_categories() -> list[Category]:
    """Every category that the shipped lists have."""
    return ["gender", "nationality and ethnicity", "religion", "age", "disability", "orientation"]


def all_lists() -> list[WordList]:
    """Every language that the shipped lists have."""
    return ["en", "fr", "zh"]


@component
class BiasAudit(Step):
    """Counts terms of groups of people by category, and the positive and negative words near them; changes nothing.

    For each group, the audit's facts tell how often its terms stand there, in how many conversations, the rate in 1,000
    words, the share of its category, and how many mentions have a positive and a negative word within `window` words.
    `log_odds` is the logarithm of the odds of positive against negative mentions over those of the category's other
    groups, if there are any (half a mention added to each count); `z` is that by its standard error: beyond 2 either
    way, chance is an unlikely reason. Where the same split passed through this step before (with another name and a
    smaller weight), `rate_before` tells what preprocessing changed. Conversations that name a group near negative words
    are counted as reported, with samples.

    Lists are small and the context of a word is not understood (`not lazy` is negative): a report to look at, no
    measure of a model. A message's language is told by its function words. Own terms: `terms`.
    Source: counts and smoothing after Monroe, Colaresi, Quinn, Fightin' Words, 2008.
    """

    splits: Splits = Field(default_factory=train_alone)  # which splits are counted
    lists: Annotated[list[WordList], Field(min_length=1)] = Field(default_factory=all_lists)  # word lists, by language
    categories: list[Category] = Field(default_factory=all_categories)  # of the shipped lists
    terms: dict[str, dict[str, list[str]]] = Field(default_factory=dict)  # own ones, by category and group
    speakers: Annotated[list[Speaker], Field(min_length=1)] = Field(default_factory=lambda: list(ALL_SPEAKERS))  # whose
    window: Annotated[int, Field(ge=1)] = 10  # words before and after a term (characters in Chinese)
    report_negative: bool = True  # counts conversations that name a group near negative words, with samples

    def __post_init__(self) -> None:
        """Refuse a step that counts nothing, and terms without a word."""
        if not self.categories and not self.terms:
            raise Refusal("categories", "is empty, and there are no terms: nothing would be counted")
        for category, groups in self.terms.items():
            for group, known in groups.items():
                if not known or not all(any(map(str.isalnum, term)) for term in known):
                    raise Refusal("terms", f"{category}.{group} has to be a list of words or phrases")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield every conversation as it is; tells the table at the end."""
        from instruct_lab.preprocessing.bias._bias_terms import terms

        known = terms(list(self.lists), list(self.categories), self.terms)
        counts = Counts()
        for conversation in conversations:
            counts.num_rows += 1
            self._count(conversation, context, known, counts)
            yield conversation
        before = _before(context.audit, context.stage)
        context.audit.note(context.stage, bias=counts.told(before))

    def _count(self, conversation: Conversation, context: Context, known: dict[str, Terms], counts: Counts) -> None:
        from instruct_lab.data.words import compared_words
        from instruct_lab.preprocessing.bias._bias_terms import language_of

        named: dict[Group, Mention | None] = {}  # the first mention near a negative word, if there is one
        for role, text in _spoken(conversation):
            if role not in self.speakers:
                continue
            tokens = compared_words(text)
            counts.num_words += len(tokens)
            language = language_of(tokens, known)
            counts.languages[language] += 1
            found: Any = [mention for phrases in known[language].groups for mention in phrases.find(tokens)]
            if not found:
                continue
            sentiment: Any = list(known[language].sentiment.find(tokens))
            for start, end, group in found:
                near = {
                    is_positive
                    for begins, ends, is_positive in sentiment
                    if begins < end + self.window and ends > start - self.window and (ends <= start or begins >= end)
                }
                counts.mention(group, near)
                if named.get(group) is None:
                    around = slice(max(0, start - self.window), end + self.window)
                    named[group] = Mention(tokens[around]) if False in near else None
        for group, mention in named.items():
            counts.rows[group] += 1
            if mention is not None and self.report_negative:
                context.audit.record(context.stage, "reported", f"{group[0]}: {group[1]} near a negative word", mention)


@dataclasses.dataclass(frozen=True)
class Mention:
    """The words around a term; made text only where they are shown."""

    tokens: list[str]

    def __str__(self) -> str:
        return "… " + " ".join(self.tokens) + " …"


@dataclasses.dataclass
class Counts:
    """What was counted."""

    num_rows: int = 0
    num_words: int = 0
    languages: Counter[str] = dataclasses.field(default_factory=Counter)
    mentions: Counter[Group] = dataclasses.field(default_factory=Counter)
    rows: Counter[Group] = dataclasses.field(default_factory=Counter)
    positive: Counter[Group] = dataclasses.field(default_factory=Counter)
    negative: Counter[Group] = dataclasses.field(default_factory=Counter)

    def mention(self, group: Group, near: set[bool]) -> None:
        """Count one mention and whether positive and negative words are near."""
        self.mentions[group] += 1
        self.positive[group] += True in near
        self.negative[group] += False in near

    def told(self, before: dict[str, Any]) -> dict[str, Any]:
        """The table: category, group, figures."""
        table: dict[str, dict[str, Any]] = {}
        for group in sorted(self.mentions, key=lambda known: (known[0], -self.mentions[known], known[1])):
            table.setdefault(group[0], {})[group[1]] = self._figures(group, before)
        languages = {"words": self.num_words, "rows": self.num_rows, "messages": dict(self.languages.most_common())}
        return languages | {"categories": table}

    def _figures(self, group: Group, before: dict[str, Any]) -> dict[str, float | int]:
        others = [other for other in self.mentions if other[0] == group[0] and other != group]
        mentions = self.mentions[group]
        figures: dict[str, float | int] = {
            "mentions": mentions,
            "rows": self.rows[group],
            "per_1000_words": round(1000 * mentions / self.num_words, DIGITS),
            "share_of_category": round(mentions / (mentions + sum(self.mentions[other] for other in others)), DIGITS),
            "near_positive": self.positive[group],
            "near_negative": self.negative[group],
        }
        if others:
            log_odds, z = log_odds_ratio(
                self.positive[group],
                self.negative[group],
                sum(self.positive[other] for other in others),
                sum(self.negative[other] for other in others),
            )
            figures |= {"log_odds": round(log_odds, DIGITS), "z": round(z, DIGITS)}
        told = before.get("categories", {}).get(group[0], {}).get(group[1])
        if before:
            figures["rate_before"] = told["per_1000_words"] if told else 0.0
        return figures


def log_odds_ratio(positive: int, negative: int, other_positive: int, other_negative: int) -> tuple[float, float]:
    """The logarithm of an odds ratio, half a count added to each, and its value in standard errors.

    Source: Haldane, 1956; Anscombe, 1956.
    """
    counts = [count + 0.5 for count in (positive, negative, other_positive, other_negative)]
    ratio = math.log(counts[0] * counts[3] / (counts[1] * counts[2]))
    return ratio, ratio / math.sqrt(sum(1 / count for count in counts))


def _spoken(conversation: Conversation) -> Iterator[tuple[str, str]]:
    for message in (*conversation.messages, *conversation.rejected):
        yield message.role, message.content
    for reference in conversation.references:
        yield "reference", reference


def _before(audit: Audit, stage: str) -> dict[str, Any]:
    """What the last audit of the same split before this one told; nothing where there was none."""
    split = stage.rpartition("/")[0]
    found: dict[str, Any] = {}
    for name, facts in audit.facts.items():
        if name != stage and name.rpartition("/")[0] == split and isinstance(facts, dict) and "bias" in facts:
            found = facts["bias"]
    return found
