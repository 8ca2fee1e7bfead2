"""The types every room shares: messages and conversations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from instruct_lab.data.words import compared_words

Role = Literal["system", "user", "assistant", "tool"]
Supervision = Literal["answers", "pairs", "labels", "text"]
"""What training can use of a data set's rows: prompts with an answer, prompts with a chosen and a rejected answer,
answers marked good or bad, or plain text for continued pretraining."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Args:
        role: who speaks.
        content: what is said.
        trained: whether it is trained; `None`: the template's policy decides.
        weight: how much each of its target tokens counts in the loss.
    """

    role: str
    content: str
    trained: bool | None = None
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order; `references` are the acceptable final answers, `metadata` the row's other columns.

    A single-turn instruction is a two-message conversation. Where `references` is empty, the last assistant
    message is the reference. In a preference pair the messages end with the chosen answer, and `rejected` is what
    follows the same prompt and is not wanted.

    Args:
        messages: the turns.
        id: a short hash of what was said when the row was read; steps keep it.
        references: acceptable final answers.
        metadata: the row's other columns, as JSON can hold them.
        rejected: the continuation of `prompt` that is not wanted; empty where the row is no preference pair.
        source: the name of the data set's source, or of the mixture's part, that the row came from.
    """

    messages: tuple[Message, ...]
    id: str = ""
    references: tuple[str, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    rejected: tuple[Message, ...] = ()
    source: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the final assistant message."""
        last_is_answer = bool(self.messages) and self.messages[-1].role == "assistant"
        return self.messages[:-1] if last_is_answer else self.messages

    @property
    def answers(self) -> tuple[str, ...]:
        """The acceptable final answers: the references, or else the last assistant message."""
        if self.references:
            return self.references
        last = self.messages[-1] if self.messages else None
        return (last.content,) if last is not None and last.role == "assistant" else ()

    def map_text(self, change: Callable[[str, str], str]) -> Conversation:
        """The conversation with every text changed; itself where no text changes.

        Args:
            change: takes a role and a text, gives the new text; references are an assistant's.
        """
        messages = _mapped(self.messages, change)
        rejected = _mapped(self.rejected, change)
        references = tuple([change("assistant", text) for text in self.references])
        if messages is self.messages and rejected is self.rejected and references == self.references:
            return self
        return Conversation(messages, self.id, references, self.metadata, rejected, self.source)

    def __str__(self) -> str:
        """The conversation as samples show it: a line for each message, its role before it."""
        shown = "\n".join(f"{message.role}: {message.content}" for message in self.messages)
        return shown + "".join(f"\nrejected {message.role}: {message.content}" for message in self.rejected)


def _mapped(messages: tuple[Message, ...], change: Callable[[str, str], str]) -> tuple[Message, ...]:
    texts = [change(message.role, message.content) for message in messages]
    if texts == [message.content for message in messages]:
        return messages
    return tuple(Message(m.role, text, m.trained, m.weight) for m, text in zip(messages, texts, strict=True))


def normalize_text(text: str) -> str:
    """The text as duplicates are compared: its words with single spaces between; without any, its characters."""
    return " ".join(compared_words(text)) or "".join(text.casefold().split())
