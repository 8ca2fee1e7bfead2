"""A format of plain texts for continued pretraining."""

from __future__ import annotations

from typing import ClassVar

from instruct_lab.config import component
from instruct_lab.data.conversation import Message
from instruct_lab.data.formats.base import Format
from instruct_lab.data.formats.columns import Column, text_of
from instruct_lab.data.sources.base import Row


@component
class PlainText(Format):
    """Reads a text for continued pretraining as one assistant message without a prompt; every token is trained on.

    Use it with template=plain, which adds only the end-of-text token.
    """

    gives: ClassVar = frozenset({"text"})

    text: Column = "text"  # column of the text

    def required(self) -> dict[str, list[str]]:
        """Return the column of the text, keyed by `text`, the field that names it."""
        return {"text": [self.text]}

    def consumed_columns(self) -> set[str | None]:
        """Return the column of the text."""
        return {self.text}

    def turns(self, row: Row) -> list[Message]:
        """Return the text as an assistant message.

        Raises:
            InstructLabError: the text is missing or empty.
        """
        text = text_of(row, self.text)
        if not text.strip():
            raise row.error("The text is empty", f"column {self.text!r}", "Remove the row")
        return [Message("assistant", text)]
