"""Messages and conversations: the types that all packages share."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

from instruct_lab.data.words import compared_words

Role = Literal["system", "user", "assistant", "tool"]
Supervision = Literal["answers", "pairs", "labels", "text"]
"""What a row contains for training: `answers` is a prompt with an answer, `pairs` a prompt with a chosen and a rejected
answer, `labels` an answer marked good or bad, and `text` plain text for continued pretraining."""


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: `system`, `user`, `assistant` or `tool`.
        content: the text.
        trained: whether the message's tokens are target tokens, which the loss counts; if `None`, the setting
            `train_on` of the template decides.
        weight: the factor by which the loss of each of the message's target tokens is multiplied.
    """

    role: str
    content: str
    trained: bool | None = None
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """A row of a data set as messages, together with its reference answers and its other columns.

    A single-turn instruction is a conversation of two messages. If `references` is empty, the last assistant message
    is the reference answer. In a preference pair, the messages end with the chosen answer, and `rejected` contains the
    rejected answer to the same prompt. In a row with a label, the messages end with the answer that is labelled.

    Args:
        messages: the messages, in order.
        id: a short hash of the row's texts as they were read; preprocessing does not change the id.
        references: the reference answers: texts that are acceptable as the final answer.
        metadata: the row's columns that are not part of the messages, as JSON values.
        rejected: the messages of the rejected answer to `prompt`; empty unless the row is a preference pair.
        source: the name of the source that the row was read from; in a mixture of data sets, the name of its part.
        origin: the file and line (or row number) that the row was read from; ignored when conversations are compared.
        desirable: the label: whether the final answer is good; `None` if the row has no label.
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
        """The messages before the final answer: all messages, without the last one if it is an assistant message."""
        last_is_answer = bool(self.messages) and self.messages[-1].role == "assistant"
        return self.messages[:-1] if last_is_answer else self.messages

    @property
    def answers(self) -> tuple[str, ...]:
        """The acceptable final answers: `references` or, if there are none, the text of a final assistant message."""
        if self.references:
            return self.references
        last = self.messages[-1] if self.messages else None
        return (last.content,) if last is not None and last.role == "assistant" else ()

    def map_text(self, change: Callable[[str, str], str]) -> Conversation:
        """Return a copy with a function applied to every text; if no text changes, return the conversation itself.

        Args:
            change: function that takes a message's role and text, and returns the new text. It is also applied to the
                reference answers, with the role `assistant`.
        """
        messages = _map_messages(self.messages, change)
        rejected = _map_messages(self.rejected, change)
        references = tuple([change("assistant", text) for text in self.references])
        if messages is self.messages and rejected is self.rejected and references == self.references:
            return self
        changed = (messages, self.id, references, self.metadata, rejected)
        return Conversation(*changed, self.source, self.origin, self.desirable)

    def __str__(self) -> str:
        """Format the conversation as text: each message on a new line, after its role."""
        lines = "\n".join(f"{message.role}: {message.content}" for message in self.messages)
        lines += "".join(f"\nrejected {message.role}: {message.content}" for message in self.rejected)
        return lines if self.desirable is None else f"{lines}\nlabel: {format_label(self.desirable)}"


def _map_messages(messages: tuple[Message, ...], change: Callable[[str, str], str]) -> tuple[Message, ...]:
    texts = [change(message.role, message.content) for message in messages]
    if texts == [message.content for message in messages]:
        return messages
    return tuple(Message(m.role, text, m.trained, m.weight) for m, text in zip(messages, texts, strict=True))


def format_label(desirable: bool) -> str:
    """Return the word for an answer's label: `desirable` or `undesirable`."""
    return "desirable" if desirable else "undesirable"


def normalize_text(text: str) -> str:
    """Normalise a text for comparison: lower case, without punctuation and symbols, with one space between words.

    If the text has no words, return it in lower case and without white space.
    """
    return " ".join(compared_words(text)) or "".join(text.casefold().split())


def canonical_text(text: str) -> str:
    """Normalise a text to Unicode form NFC, and replace each sequence of white space by one space.

    Texts that differ only in their Unicode form or white space become equal.
    """
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
