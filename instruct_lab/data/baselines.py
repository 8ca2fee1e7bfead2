"""Baselines that answer without a model, for comparison with the tuned model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.data.conversation import Conversation, normalize_text
from instruct_lab.data.sources.base import suggest_column
from instruct_lab.errors import InstructLabError

MAX_POSTINGS = 50_000
MAX_CANDIDATES = 200


@component
class Baseline(Component, ABC):
    """Base class of baselines, which answer prompts without a model."""

    @abstractmethod
    def answers(self, train: Sequence[Conversation], prompts: Sequence[Conversation]) -> list[str]:
        """Return one answer for each prompt, in order.

        Args:
            train: the training conversations, including answers.
            prompts: the conversations to answer; their own answers are not used.

        Raises:
            InstructLabError: a conversation lacks the column that the baseline reads.
        """


@component
class Copy(Baseline):
    """A baseline that answers a prompt with its last user message, or with the value of a column of its row."""

    column: Annotated[str, Field(min_length=1)] | None = None  # metadata column; null: the last user message

    def answers(self, train: Sequence[Conversation], prompts: Sequence[Conversation]) -> list[str]:
        """Return, for each prompt, its last user message; if `column` is set, the value of its row in this column."""
        return [_question(conversation, self.column) for conversation in prompts]


@component
class NearestExample(Baseline):
    """A baseline that answers with the answer of the training example whose question is most similar to the prompt's.

    The question is the last user message or, if `column` is set, the value of this column. Similarity is the Dice
    coefficient of the questions' sets of character n-grams. If several examples are equally similar, the first is used.
    To be fast in very large training sets, the search for candidates skips n-grams that occur in very many questions;
    they still count for the similarity.
    """

    column: Annotated[str, Field(min_length=1)] | None = None  # metadata column to compare; null: the last user message
    num_characters: Annotated[int, Field(ge=1, le=10)] = 3  # number of characters in an n-gram

    def answers(self, train: Sequence[Conversation], prompts: Sequence[Conversation]) -> list[str]:
        """Return, for each prompt, the answer of the most similar training example.

        The answer is empty if no training question has an n-gram in common with the prompt's question.
        """
        examples = [conversation for conversation in train if conversation.answers]
        if not examples:
            raise InstructLabError("No training example has an answer to use as a baseline", where="data.baselines")
        grams = [self._grams(_question(conversation, self.column)) for conversation in examples]
        index: dict[str, list[int]] = defaultdict(list)
        for number, own in enumerate(grams):
            for gram in sorted(own):
                index[gram].append(number)
        found = (self._nearest(self._grams(_question(prompt, self.column)), grams, index) for prompt in prompts)
        return ["" if number is None else examples[number].answers[0] for number in found]

    def _grams(self, text: str) -> set[str]:
        padded = f" {normalize_text(text)} "
        return {
            padded[start : start + self.num_characters]
            for start in range(max(1, len(padded) - self.num_characters + 1))
        }

    def _nearest(self, wanted: set[str], grams: list[set[str]], index: dict[str, list[int]]) -> int | None:
        shared: Counter[int] = Counter()
        visited = 0
        for gram in sorted(wanted & index.keys(), key=lambda gram: (len(index[gram]), gram)):
            if shared and visited + len(index[gram]) > MAX_POSTINGS:
                break
            shared.update(index[gram])
            visited += len(index[gram])
        best, nearest = 0.0, None
        ranked = sorted(shared.items(), key=lambda pair: (-pair[1] / (len(wanted) + len(grams[pair[0]])), pair[0]))
        for number, _ in ranked[:MAX_CANDIDATES]:
            similarity = 2 * len(wanted & grams[number]) / (len(wanted) + len(grams[number]))
            if similarity > best or (similarity == best and nearest is not None and number < nearest):
                best, nearest = similarity, number
        return nearest


def _question(conversation: Conversation, column: str | None) -> str:
    if column is not None:
        value = conversation.metadata.get(column)
        if not isinstance(value, str):
            raise InstructLabError(
                f"A baseline uses the column {column!r}, and a row has no text in it",
                where=f"data.baselines and {conversation.where}",
                do=suggest_column(column, conversation.metadata),
            )
        return value
    users = [message.content for message in conversation.prompt if message.role == "user"]
    return users[-1] if users else ""
