"""What a source is: named rows, each with the place it was read from."""

from __future__ import annotations

import dataclasses
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import Component, component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.audit import Audit
from instruct_lab.errors import InstructLabError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row: its columns, where it was read (file and line, or file and row), and its bytes there, if there are many.

    Args:
        columns: by name.
        where: for errors.
        size: about so many bytes; 0: not counted.
    """

    columns: dict[str, Any]
    where: str
    size: int = 0

    def text(self, column: str) -> str:
        """The text of a column.

        Raises:
            InstructLabError: the row lacks the column, or it holds no text.
        """
        if column not in self.columns:
            raise self.error(f"The row has no column {column!r}", do=suggest_column(column, self.columns))
        return self.check_text(self.columns[column], f"column {column!r}")

    def check_text(self, value: Any, place: str) -> str:
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


def suggest_column(column: str, available: Iterable[str]) -> str:
    """What to do about a column that is not there: the nearest spelling, and all that there are."""
    names = [str(name) for name in available]
    close = nearest(column, names)
    return (f"Did you mean {close!r}? " if close else "") + f"Name one of the columns: {', '.join(names) or 'none'}"


@dataclasses.dataclass(frozen=True, slots=True)
class BrokenRow:
    """A place where a row should be and something else is; counted, or an error, as the data set says."""

    error: InstructLabError


@component
class Source(Component, ABC):
    """Where rows come from."""

    keeps_one_of_equal_rows: ClassVar[bool] = False
    """Whether equal examples are one example told twice, so that a split's pool keeps only the first."""

    max_rows: Annotated[int, Field(ge=1)] | None = None  # rows to read at most; null: all
    shuffle_buffer: Annotated[int, Field(ge=0)] = 0  # rows held to be given out in random order; 0: as they stand
    shuffle_seed: Annotated[int, Field(ge=0)] = 0  # of that order

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """The pinned inputs that the rows are read from, with the SHA-256 of their bytes; no row is read.

        Args:
            cache_path: folder for what is downloaded.

        Raises:
            InstructLabError: an input is not there, or cannot be read or brought.
        """

    @abstractmethod
    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Read the rows one after the other, a bounded number in memory at a time.

        Args:
            cache_path: folder for what is downloaded.
            audit: counts what the source leaves out by its own rules.
            stage: the name that the audit counts under.

        Raises:
            InstructLabError: the source cannot be read on.
        """

    def read(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """The rows that are used: shuffled through a buffer, up to `max_rows`."""
        rows = self.rows(cache_path, audit, stage)
        if self.shuffle_buffer:
            rows = shuffled(rows, self.shuffle_buffer, self.shuffle_seed)
        return itertools.islice(rows, self.max_rows)

    def location_fields(self) -> set[str]:
        """Fields that only say where the inputs are, not what is read: they do not count when rows are looked up."""
        return set()

    def known_columns(self) -> list[str] | None:
        """The column names, where a light look tells them; none where only reading does."""
        return None


def shuffled(rows: Iterable[T], buffer: int, seed: int) -> Iterator[T]:
    """Rows in random order, with so many of them in memory: each gives its place to a later one.

    Source: the bounded shuffle buffer of `tf.data` and WebDataset. A function of the seed and the rows alone.
    """
    source = random.Random(seed)
    held: list[T] = []
    for row in rows:
        if len(held) < buffer:
            held.append(row)
            continue
        place = int(source.random() * buffer)
        yield held[place]
        held[place] = row
    while held:
        place = int(source.random() * len(held))
        held[place], held[-1] = held[-1], held[place]
        yield held.pop()
