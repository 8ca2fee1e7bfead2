"""What a format is: how a row becomes a conversation."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from instruct_lab.config import Component, component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.conversation import Conversation, Message
from instruct_lab.data.source import Row, columns_hint
from instruct_lab.errors import InstructLabError, Problem

ID_CHARACTERS = 16


@component
class Format(Component, ABC):
    """How a row becomes a conversation, and which columns that needs."""

    @abstractmethod
    def required(self) -> dict[str, list[str]]:
        """The columns that every row must have, by the field that names them."""

    @abstractmethod
    def turns(self, row: Row) -> list[Message]:
        """The row's messages in order.

        Raises:
            InstructLabError: the row does not have the shape that this format names.
        """

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """The acceptable final answers, where the row has others than its last message."""
        return ()

    @abstractmethod
    def told_columns(self) -> set[str | None]:
        """The columns that messages or references hold whole, which the metadata does not repeat."""

    def conversation(self, row: Row) -> Conversation:
        """The row as a conversation; its `id` is a hash of the messages and references.

        Raises:
            InstructLabError: the row does not have the shape that this format names.
        """
        messages, references = tuple(self.turns(row)), self.reference_texts(row)
        told = self.told_columns()
        metadata = {str(column): value for column, value in row.columns.items() if column not in told}
        return Conversation(messages, content_id(messages, references), references, metadata)

    def check_columns(self, row: Row) -> None:
        """Compare the columns that this format names with a source's first row.

        Raises:
            InstructLabError: one is not there; lists those that are.
        """
        for problem in self.column_problems(list(row.columns)):
            raise InstructLabError(
                f"The format's {problem.key} names the column {problem.value!r}, which is not there",
                where=row.where,
                do=columns_hint(str(problem.value), row.columns),
            )

    def column_problems(self, available: list[str]) -> Iterator[Problem]:
        """One problem for each required column that is not available, keyed by the field that names it."""
        for field, columns in self.required().items():
            for column in columns:
                if column not in available:
                    reason = f"there is no column {column!r} (columns: {', '.join(map(str, available)) or 'none'})"
                    yield Problem(key=field, value=column, reason=reason, suggestion=nearest(column, available))


def content_id(messages: tuple[Message, ...], references: tuple[str, ...]) -> str:
    """A short hash of what is said, the same in every run and on every machine."""
    content: list[Any] = [[message.role, message.content, message.trained] for message in messages]
    encoded = json.dumps([content, references], ensure_ascii=False).encode()
    return hashlib.sha256(encoded).hexdigest()[:ID_CHARACTERS]
