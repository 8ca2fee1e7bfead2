"""Messages and conversations: the types that all packages share."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

from instruct_lab.data.words import compared_words

Role = Literal["system", "user", "assistant", "tool"]
Supervision = Literal["answers", "pairs", "labels", "text"]
"""The kind of supervision in a row: a prompt with an answer, a prompt with a chosen and a rejected answer, an answer
marked good or bad, or plain text for continued pretraining."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: system, user, assistant or tool.
        content: the text.
        trained: whether its tokens are targets; if `None`, the setting `train_on` of the template decides.
        weight: the weight of each of its target tokens in the loss.
    """

    role: str
    content: str
    trained: bool | None = None
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, together with the acceptable final answers and the other columns of the row.

    A single-turn instruction is a conversation of two messages. If `references` is empty, the last assistant message
    is the reference. In a preference pair, the messages end with the chosen answer, and `rejected` holds the rejected
    answer to the same prompt. In a row with a label, the messages end with the answer that `desirable` judges.

    Args:
        messages: the messages.
        id: a short hash of the texts as read; preprocessing does not change the id.
        references: the acceptable final answers.
        metadata: the row's other columns, as JSON values.
        rejected: the messages of the rejected answer to `prompt`; empty unless the row is a preference pair.
        source: the name of the row's source, or of its part of a mixture.
        origin: the file and line (or row number) that the row was read from; ignored when conversations are compared.
        desirable: whether the final answer is a good one; `None` if the row has no label.
    """

    messages: tuple[Message, ...]
    id: str = ""
    references: tuple[str, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    rejected: tuple[Message, ...] = ()
    source: str = ""
    origin: str = dataclasses.field(default="", compare=False)
    desirable: bool | None = None

    @property
    def where(self) -> str:
        """The file and line of the row, its id, and the beginning of its text, for error messages."""
        text = f": {self.messages[0].content[:60]!r}" if self.messages else ""
        return f"{self.origin}{', ' if self.origin else ''}conversation {self.id or '(unnamed)'}{text}"

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
        """Apply a function to every text; return the same object if no text changes.

        Args:
            change: function that receives a role and a text and returns the new text; for references, the role is
                assistant.
        """
        messages = _map_messages(self.messages, change)
        rejected = _map_messages(self.rejected, change)
        references = tuple([change("assistant", text) for text in self.references])
        if messages is self.messages and rejected is self.rejected and references == self.references:
            return self
        changed = (messages, self.id, references, self.metadata, rejected)
        return Conversation(*changed, self.source, self.origin, self.desirable)

    def __str__(self) -> str:
        """Format the conversation for samples: each message on a new line, after its role."""
        lines = "\n".join(f"{message.role}: {message.content}" for message in self.messages)
        lines += "".join(f"\nrejected {message.role}: {message.content}" for message in self.rejected)
        return lines if self.desirable is None else f"{lines}\nlabel: {format_label(self.desirable)}"


def _map_messages(messages: tuple[Message, ...], change: Callable[[str, str], str]) -> tuple[Message, ...]:
    texts = [change(message.role, message.content) for message in messages]
    if texts == [message.content for message in messages]:
        return messages
    return tuple(Message(m.role, text, m.trained, m.weight) for m, text in zip(messages, texts, strict=True))


def format_label(desirable: bool) -> str:
    """Return the word for a label: desirable or undesirable."""
    return "desirable" if desirable else "undesirable"


def normalize_text(text: str) -> str:
    """Return the normalised words of a text, joined by spaces; if it has no words, return its other characters."""
    return " ".join(compared_words(text)) or "".join(text.casefold().split())


def canonical_text(text: str) -> str:
    """Normalise a text to Unicode form NFC and collapse white space; texts that differ only in these become equal."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
