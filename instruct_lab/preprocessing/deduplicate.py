"""Conversations told twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation, normalized
from instruct_lab.preprocessing.base import Part, Splits, Step, part_text, shown, train_alone


@component
class DeduplicateExact(Step):
    """Drops a conversation whose text was there before; keeps the first.

    By words, text is compared in NFKC, case folded, without punctuation: `Stop!` is `stop`, and `a + b` is `a - b`.
    """

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    by: Part = "conversation"  # what has to be the same
    compare: Literal["words", "characters"] = "words"  # characters: every one counts, as in code

    def apply(self, conversations: Iterable[Conversation], stage: str, audit: Audit) -> Iterator[Conversation]:
        """Yield the first of each; counts the others."""
        seen: set[bytes] = set()
        for conversation in conversations:
            key = hashlib.sha256(self._key(conversation).encode()).digest()
            if key in seen:
                audit.record(stage, "dropped", f"same {self.by} as before", shown(conversation))
                continue
            seen.add(key)
            yield conversation

    def _key(self, conversation: Conversation) -> str:
        compared = normalized if self.compare == "words" else repr
        if self.by == "answer":
            return compared(part_text(conversation, "answer"))
        messages = conversation.messages if self.by == "conversation" else conversation.prompt
        return "\n".join(f"{message.role} {compared(message.content)}" for message in messages)
