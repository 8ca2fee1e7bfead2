"""Tuning by prompting: nothing is trained; only the prompt changes."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation, Message
from instruct_lab.data.words import compared_words
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.tuning.base import Tuning

if TYPE_CHECKING:
    from instruct_lab.model import LoadedModel

MARKER = "prompting.txt"
K1, B = 1.2, 0.75
"""Usual constants of BM25."""


@component
class Prompting(Tuning):
    """Zero-shot or k-shot prompting: worked examples from the training split become earlier turns of each conversation.

    The base model with good prompts is a baseline for tuned models. An example whose prompt equals the conversation's
    prompt is never used. Encoders and reward models are refused, because they generate no answers.
    Source: Brown et al., 2020.
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder"})
    heads: ClassVar[frozenset[str]] = frozenset({"language"})
    trains: ClassVar[bool] = False

    shots: Annotated[int, Field(ge=0)] = 0  # number of worked examples before each prompt
    choose: Literal["seed", "similar"] = "seed"  # seed: random examples; similar: most similar to the prompt (BM25)
    seed: Annotated[int, Field(ge=0)] = 0  # random seed for the choice of examples
    instruction: Annotated[str, Field(min_length=1)] | None = None  # system message before each prompt

    def __post_init__(self) -> None:
        if self.neftune_alpha is not None:
            raise Refusal("neftune_alpha", "is noise in training, and nothing is trained", "null")
        if self.choose == "similar" and not self.shots:
            raise Refusal("choose", "chooses examples, and shots is 0", "seed")

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze the model."""
        loaded.model.requires_grad_(False)
        return loaded

    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write a file with a note that the model is the unchanged base model."""
        write_marker(path)

    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """Return the model unchanged."""
        return loaded

    def merge(self, loaded: LoadedModel) -> LoadedModel:
        """Return the model unchanged."""
        return loaded

    def prompts(
        self, conversations: Sequence[Conversation], demonstrations: Sequence[Conversation]
    ) -> list[Conversation]:
        """Return the conversations, with `instruction` as the system message and worked examples as the first turns.

        Raises:
            InstructLabError: the training split has too few single-turn examples.
        """
        if not self.shots:
            return [self._with((), conversation) for conversation in conversations]
        single = [one for one in demonstrations if one.answers and [m.role for m in one.prompt] == ["user"]]
        if len(single) <= self.shots:
            raise InstructLabError(
                f"The training split has {len(single)} single-turn examples; tuning.shots={self.shots} needs at least "
                f"{self.shots + 1}",
                where="tuning.shots",
                do="lower it",
            )
        ranked = _Similar(single) if self.choose == "similar" else None
        order = list(range(len(single)))
        random.Random(f"{self.seed}:shots").shuffle(order)
        prompted = []
        for conversation in conversations:
            question = _question(conversation)
            indices = ranked.order(question) if ranked is not None else order
            examples = [single[index] for index in indices if _question(single[index]) != question][: self.shots]
            prompted.append(self._with(examples[::-1] if ranked is not None else examples, conversation))
        return prompted

    def _with(self, examples: Sequence[Conversation], conversation: Conversation) -> Conversation:
        """Put the field `instruction`, as a system message, and the worked examples before a conversation's turns.

        If the conversation has a system message, its text follows the instruction.
        """
        turns = [
            message
            for one in examples
            for message in (Message("user", one.prompt[0].content), Message("assistant", one.answers[0]))
        ]
        messages = conversation.messages
        system = [message for message in messages[:1] if message.role == "system"]
        if self.instruction is not None:
            text = "\n\n".join([self.instruction, *(message.content for message in system)])
            opening = [Message("system", text)]
        else:
            opening = system
        rest = messages[len(system) :]
        if not turns and opening == system:
            return conversation
        return dataclasses.replace(conversation, messages=(*opening, *turns, *rest))


def write_marker(path: Path) -> None:
    """Write a file with a note that the model is the unchanged base model."""
    path.mkdir(parents=True, exist_ok=True)
    (path / MARKER).write_text("the base model; its prompts are changed\n", encoding="utf-8")


def _question(conversation: Conversation) -> str:
    return "\n".join(message.content for message in conversation.prompt if message.role != "system")


class _Similar:
    """Ranks the prompts of worked examples by their similarity to a text, computed by BM25 (Robertson et al., 1995).

    If two prompts are equally similar, the one that comes first in the training split comes first.
    """

    def __init__(self, demonstrations: Sequence[Conversation]) -> None:
        self._words = [Counter(compared_words(_question(one))) for one in demonstrations]
        self._lengths = [sum(words.values()) for words in self._words]
        self._mean = sum(self._lengths) / len(self._lengths) or 1.0
        self._indices: dict[str, list[int]] = {}
        for index, words in enumerate(self._words):
            for word in words:
                self._indices.setdefault(word, []).append(index)

    def order(self, text: str) -> list[int]:
        """Return the indices of the prompts in order of decreasing similarity to `text`."""
        scores = [0.0] * len(self._words)
        for word in set(compared_words(text)):
            indices = self._indices.get(word, [])
            rarity = math.log(1 + (len(self._words) - len(indices) + 0.5) / (len(indices) + 0.5))
            for index in indices:
                count = self._words[index][word]
                size = K1 * (1 - B + B * self._lengths[index] / self._mean)
                scores[index] += rarity * count * (K1 + 1) / (count + size)
        return sorted(range(len(scores)), key=lambda index: (-scores[index], index))
