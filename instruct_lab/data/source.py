"""What a source is: named rows, each with the place it was read from."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from instruct_lab.assets import Input
from instruct_lab.config import Component, component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.audit import Audit
from instruct_lab.errors import InstructLabError


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row: its columns, and where it was read (file and line, or file and row)."""

    columns: dict[str, Any]
    where: str

    def text(self, column: str) -> str:
        """The text of a column.

        Raises:
            InstructLabError: the row lacks the column, or it holds no text.
        """
        if column not in self.columns:
            raise self.error(f"The row has no column {column!r}", do=columns_hint(column, self.columns))
        return self.checked_text(self.columns[column], f"column {column!r}")

    def checked_text(self, value: Any, place: str) -> str:
        """The value, if it is text that can be written as UTF-8.

        Raises:
            InstructLabError: it is not.
        """
        if not isinstance(value, str):
            shown = repr(value)[:60]
            raise self.error(f"Text was expected and {type(value).__name__} found: {shown}", place, "Mend the row")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                broken = f"The text holds half of a surrogate pair at character {error.start}"
                raise self.error(broken, place, "Mend the row") from error
        return value

    def error(self, what: str, place: str = "", do: str = "") -> InstructLabError:
        """An error about this row that names its file, line and column."""
        return InstructLabError(what, where=f"{self.where}, {place}" if place else self.where, do=do)


def columns_hint(column: str, available: Iterable[str]) -> str:
    """What to do about a column that is not there: the nearest spelling, and all that there are."""
    names = [str(name) for name in available]
    close = nearest(column, names)
    return (f"Did you mean {close!r}? " if close else "") + f"Name one of the columns: {', '.join(names) or 'none'}"


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a source read: its rows, and the inputs that they came from."""

    rows: list[Row]
    inputs: list[Input]


@component
class Source(Component, ABC):
    """Where rows come from."""

    keeps_one_of_equal_rows: ClassVar[bool] = False
    """Whether equal examples are one example told twice, so that a split's pool keeps only the first."""

    @abstractmethod
    def read(self, cache_path: Path, audit: Audit, stage: str) -> Rows:
        """Read every row.

        Args:
            cache_path: folder for what is downloaded.
            audit: counts what the source leaves out.
            stage: the name that the audit counts under.

        Raises:
            InstructLabError: the source cannot be read.
        """

    def known_columns(self) -> list[str] | None:
        """The column names, where a light look tells them; none where only reading does."""
        return None
