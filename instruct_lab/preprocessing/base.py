"""What a preprocessing step is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.data import Audit, Conversation, SplitName

Splits = Annotated[list[SplitName], Field(min_length=1)]
Part = Literal["conversation", "prompt", "answer"]


def every_split() -> list[SplitName]:
    """The default of steps that mend rows."""
    return ["train", "validation", "test"]


def train_alone() -> list[SplitName]:
    """The default of steps that choose rows: what is measured on stays whole."""
    return ["train"]


@component
class Step(Component, ABC):
    """One pass over conversations: maps, drops or splits them, and counts what it does in the audit."""

    splits: Splits = Field(default_factory=every_split)  # which splits pass through

    @abstractmethod
    def apply(self, conversations: Iterable[Conversation], stage: str, audit: Audit) -> Iterator[Conversation]:
        """Yield the conversations that go on; `stage` is the name the audit counts under."""


def shown(conversation: Conversation) -> str:
    """A conversation as the audit's samples show it."""
    return "\n".join(f"{message.role}: {message.content}" for message in conversation.messages)


def part_text(conversation: Conversation, part: Part) -> str:
    """The text of a part of a conversation; messages are joined by newlines, the answer is the last one's."""
    if part == "answer":
        return conversation.answers[0] if conversation.answers else ""
    messages = conversation.messages if part == "conversation" else conversation.prompt
    return "\n".join(message.content for message in messages)
