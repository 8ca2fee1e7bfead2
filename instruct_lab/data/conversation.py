"""The types every room shares: messages and conversations."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """One turn: who speaks, what is said, and whether it is trained (`None`: the template's policy decides)."""

    role: str
    content: str
    trained: bool | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order; `references` are the acceptable final answers, `metadata` the row's other columns.

    A single-turn instruction is a two-message conversation. Where `references` is empty, the last assistant
    message is the reference.
    """

    messages: tuple[Message, ...]
    id: str = ""
    references: tuple[str, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

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


def normalized(text: str) -> str:
    """The text as duplicates are compared: NFKC, case folded, word characters only, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded)) or " ".join(folded.split())
