"""An audit of how often groups of people are mentioned, and of positive and negative words near the mentions."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation
from instruct_lab.data.words import compared_words
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Splits, Step, train_only
from instruct_lab.preprocessing.bias.terms import Group, Terms, language_of, load_terms

Category = Literal["gender", "nationality and ethnicity", "religion", "age", "disability", "orientation"]
WordList = Literal["en", "fr", "zh"]
Speaker = Literal["system", "user", "assistant", "tool", "reference"]
ALL_SPEAKERS: tuple[Speaker, ...] = ("system", "user", "assistant", "tool", "reference")
DIGITS = 3


def all_categories() -> list[Category]:
    """Return all categories of groups of people, such as `gender`, that this package's word lists contain."""
    return ["gender", "nationality and ethnicity", "religion", "age", "disability", "orientation"]


def all_lists() -> list[WordList]:
    """Return the names of this package's word lists, which are language codes."""
    return ["en", "fr", "zh"]


@component
class BiasAudit(Step):
    """Counts mentions of groups of people by category, and positive and negative words near them. Rows do not change.

    For each group, the audit contains the number of mentions, the number of conversations with a mention, the rate per
    1,000 words, the group's share of all mentions in its category, and the number of mentions with a positive or a
    negative word within `window` words. `log_odds` is the logarithm of an odds ratio: the odds of positive against
    negative mentions of the group, divided by the odds for the category's other groups, with 0.5 added to each count.
    `z` is `log_odds` divided by its standard error; values above 2 or below -2 are unlikely to be due to chance. If
    another bias audit step ran earlier on the same split, `rate_before` is its rate per 1,000 words. Conversations that
    mention a group near negative words are counted as reported, with samples.

    The word lists are small and the context of a word is ignored (`not lazy` is negative), so read the audit as a hint,
    not as a measurement. A message's language is detected by its function words. Add your own terms in `terms`. Source
    of the counts and their smoothing: Monroe, Colaresi, Quinn, Fightin' Words, 2008.
    """

    splits: Splits = Field(default_factory=train_only)  # splits that are counted
    lists: Annotated[list[WordList], Field(min_length=1)] = Field(default_factory=all_lists)  # word lists, by language
    categories: list[Category] = Field(default_factory=all_categories)  # categories of the packaged lists
    terms: dict[str, dict[str, list[str]]] = Field(default_factory=dict)  # further terms, by category and group
    speakers: Annotated[list[Speaker], Field(min_length=1)] = Field(default_factory=lambda: list(ALL_SPEAKERS))  # roles
    window: Annotated[int, Field(ge=1)] = 10  # words before and after a term (characters in Chinese)
    report_negative: bool = True  # report conversations that mention a group near negative words

    def __post_init__(self) -> None:
        """Refuse a step without terms to count, an empty list of terms, and a term without a letter or digit."""
        if not self.categories and not self.terms:
            raise Refusal("categories", "is empty, and there are no terms: nothing would be counted")
        for category, groups in self.terms.items():
            for group, known in groups.items():
                if not known or not all(any(map(str.isalnum, term)) for term in known):
                    raise Refusal("terms", f"{category}.{group} must be a list of words or phrases")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield every conversation unchanged; add the table of counts to the audit at the end."""
        known = load_terms(list(self.lists), list(self.categories), self.terms)
        counts = Counts()
        for conversation in conversations:
            counts.num_rows += 1
            self._count(conversation, context, known, counts)
            yield conversation
        before = _before(context.audit, context.stage)
        context.audit.note(context.stage, bias=counts.table(before))

    def _count(self, conversation: Conversation, context: Context, known: dict[str, Terms], counts: Counts) -> None:
        mentioned: dict[Group, Mention | None] = {}  # first mention near a negative word, or `None`
        for role, text in _texts(conversation):
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
                if mentioned.get(group) is None:
                    around = slice(max(0, start - self.window), end + self.window)
                    mentioned[group] = Mention(tokens[around]) if False in near else None
        for group, mention in mentioned.items():
            counts.rows[group] += 1
            if mention is not None and self.report_negative:
                context.audit.record(context.stage, "reported", f"{group[0]}: {group[1]} near a negative word", mention)


@dataclasses.dataclass(frozen=True)
class Mention:
    """A mention of a group of people: the term and the words around it, joined only when the mention is displayed."""

    tokens: list[str]

    def __str__(self) -> str:
        return "… " + " ".join(self.tokens) + " …"


@dataclasses.dataclass
class Counts:
    """Counts of the rows, words, messages in each language, and mentions of groups of people in one split."""

    num_rows: int = 0
    num_words: int = 0
    languages: Counter[str] = dataclasses.field(default_factory=Counter)
    mentions: Counter[Group] = dataclasses.field(default_factory=Counter)
    rows: Counter[Group] = dataclasses.field(default_factory=Counter)
    positive: Counter[Group] = dataclasses.field(default_factory=Counter)
    negative: Counter[Group] = dataclasses.field(default_factory=Counter)

    def mention(self, group: Group, near: set[bool]) -> None:
        """Count one mention of a group of people.

        Args:
            group: the name of the category, such as `gender`, and the name of the group.
            near: which kinds of words are near the mention: `True` for positive words, `False` for negative words.
        """
        self.mentions[group] += 1
        self.positive[group] += True in near
        self.negative[group] += False in near

    def table(self, before: dict[str, Any]) -> dict[str, Any]:
        """Return the counts of words, rows and messages in each language, and the figures of each group of people.

        The figures are counts and rates. They are in the item `categories`, keyed by category and then by group.

        Args:
            before: the table of an earlier bias audit of the same split, for comparison; empty if there is none.
        """
        categories: dict[str, dict[str, Any]] = {}
        for group in sorted(self.mentions, key=lambda known: (known[0], -self.mentions[known], known[1])):
            categories.setdefault(group[0], {})[group[1]] = self._figures(group, before)
        languages = {"words": self.num_words, "rows": self.num_rows, "messages": dict(self.languages.most_common())}
        return languages | {"categories": categories}

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
        earlier = before.get("categories", {}).get(group[0], {}).get(group[1])
        if before:
            figures["rate_before"] = earlier["per_1000_words"] if earlier else 0.0
        return figures


def log_odds_ratio(positive: int, negative: int, other_positive: int, other_negative: int) -> tuple[float, float]:
    """Return the logarithm of the odds ratio of a group of people, and this logarithm divided by its standard error.

    The ratio is the odds of positive against negative mentions of the group, divided by these odds for the other groups
    of its category. 0.5 is added to each count. Source: Haldane, 1956; Anscombe, 1956.

    Args:
        positive: number of the group's mentions near positive words.
        negative: number of the group's mentions near negative words.
        other_positive: number of the other groups' mentions near positive words.
        other_negative: number of the other groups' mentions near negative words.
    """
    counts = [count + 0.5 for count in (positive, negative, other_positive, other_negative)]
    ratio = math.log(counts[0] * counts[3] / (counts[1] * counts[2]))
    return ratio, ratio / math.sqrt(sum(1 / count for count in counts))


def _texts(conversation: Conversation) -> Iterator[tuple[str, str]]:
    for message in (*conversation.messages, *conversation.rejected):
        yield message.role, message.content
    for reference in conversation.references:
        yield "reference", reference


def _before(audit: Audit, stage: str) -> dict[str, Any]:
    """Return the table of the latest earlier bias audit of the same split; it is empty if there was none."""
    split = stage.rpartition("/")[0]
    found: dict[str, Any] = {}
    for name, facts in audit.facts.items():
        if name != stage and name.rpartition("/")[0] == split and isinstance(facts, dict) and "bias" in facts:
            found = facts["bias"]
    return found
