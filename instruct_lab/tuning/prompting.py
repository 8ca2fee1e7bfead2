"""Prompting: nothing trains, the prompt changes."""

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
    """Zero-shot or k-shot prompting: worked examples of the training split as earlier turns. Brown et al., 2020.

    So that an untrained model with good prompts stands in one comparison with tuned ones. An example that asks the same
    is never shown. An encoder writes no answer, and a score has no prompt: both are refused.
    """

    families: ClassVar = frozenset({"decoder", "encoder-decoder"})
    heads: ClassVar[frozenset[str]] = frozenset({"language"})
    trains: ClassVar[bool] = False

    shots: Annotated[int, Field(ge=0)] = 0  # worked examples before each prompt
    choose: Literal["seed", "similar"] = "seed"  # the same for all, drawn by seed; or each prompt's most similar (BM25)
    seed: Annotated[int, Field(ge=0)] = 0  # of the draw
    instruction: Annotated[str, Field(min_length=1)] | None = None  # a system message before everything

    def __post_init__(self) -> None:
        if self.neftune_alpha is not None:
            raise Refusal("neftune_alpha", "is noise in training, and nothing trains", "null")
        if self.choose == "similar" and not self.shots:
            raise Refusal("choose", "chooses examples, and shots is 0", "seed")

    def apply(self, loaded: LoadedModel) -> LoadedModel:
        """Freeze the model."""
        loaded.model.requires_grad_(False)
        return loaded

    def save(self, loaded: LoadedModel, path: Path) -> None:
        """Write a note that the model is the untuned one."""
        path.mkdir(parents=True, exist_ok=True)
        (path / MARKER).write_text("the untuned model; its prompts are changed\n", encoding="utf-8")

    def load(self, loaded: LoadedModel, path: Path) -> LoadedModel:
        """The model as it is."""
        return loaded

    def merge(self, loaded: LoadedModel) -> LoadedModel:
        """The model as it is."""
        return loaded

    def prompts(
        self, conversations: Sequence[Conversation], demonstrations: Sequence[Conversation]
    ) -> list[Conversation]:
        """The conversations with the instruction and worked examples before them.

        Raises:
            InstructLabError: there are too few worked examples.
        """
        if not self.shots:
            return [self._with((), conversation) for conversation in conversations]
        single = [one for one in demonstrations if one.answers and [m.role for m in one.prompt] == ["user"]]
        if len(single) <= self.shots:
            raise InstructLabError(
                f"The training split has {len(single)} single-turn examples to show, and {self.shots} are wanted "
                "beside the one that is asked",
                where="tuning.shots",
                do="lower it",
            )
        ranked = _Similar(single) if self.choose == "similar" else None
        order = list(range(len(single)))
        random.Random(f"{self.seed}:shots").shuffle(order)
        prompted = []
        for conversation in conversations:
            asked = _asked(conversation)
            places = ranked.order(asked) if ranked is not None else order
            shown = [single[place] for place in places if _asked(single[place]) != asked][: self.shots]
            prompted.append(self._with(shown[::-1] if ranked is not None else shown, conversation))
        return prompted

    def _with(self, shown: Sequence[Conversation], conversation: Conversation) -> Conversation:
        """The instruction, the worked examples, the conversation; the most similar example stands nearest."""
        turns = [
            message
            for one in shown
            for message in (Message("user", one.prompt[0].content), Message("assistant", one.answers[0]))
        ]
        messages = conversation.messages
        system = [message for message in messages[:1] if message.role == "system"]
        if self.instruction is not None:
            told = "\n\n".join([self.instruction, *(message.content for message in system)])
            opening = [Message("system", told)]
        else:
            opening = system
        rest = messages[len(system) :]
        if not turns and opening == system:
            return conversation
        return dataclasses.replace(conversation, messages=(*opening, *turns, *rest))


def _asked(conversation: Conversation) -> str:
    return "\n".join(message.content for message in conversation.prompt if message.role != "system")


class _Similar:
    """BM25 over the prompts (Robertson et al., 1995); ties by place."""

    def __init__(self, demonstrations: Sequence[Conversation]) -> None:
        self._words = [Counter(compared_words(_asked(one))) for one in demonstrations]
        self._lengths = [sum(words.values()) for words in self._words]
        self._mean = sum(self._lengths) / len(self._lengths) or 1.0
        self._places: dict[str, list[int]] = {}
        for place, words in enumerate(self._words):
            for word in words:
                self._places.setdefault(word, []).append(place)

    def order(self, text: str) -> list[int]:
        """Places of the prompts, the most similar first."""
        scores = [0.0] * len(self._words)
        for word in set(compared_words(text)):
            places = self._places.get(word, [])
            rarity = math.log(1 + (len(self._words) - len(places) + 0.5) / (len(places) + 0.5))
            for place in places:
                count = self._words[place][word]
                size = K1 * (1 - B + B * self._lengths[place] / self._mean)
                scores[place] += rarity * count * (K1 + 1) / (count + size)
        return sorted(range(len(scores)), key=lambda place: (-scores[place], place))
