"""The base class of data sources, and the rows that they read."""

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
from instruct_lab.data.sources.row_stream import RowStream, SourcePosition, skip_to
from instruct_lab.errors import InstructLabError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One row of a data source.

    Args:
        columns: values, keyed by column name.
        where: the file and line (or row number), for error messages.
        size: the approximate size in the file, in bytes; 0 if unknown.
        has_padding: whether the row comes from a table, such as a Parquet file. There, all objects of a column have the
            same keys, so a null may stand for a missing key.
    """

    columns: dict[str, Any]
    where: str
    size: int = 0
    has_padding: bool = False

    def text(self, column: str) -> str:
        """Return the text of a column.

        Raises:
            InstructLabError: the row lacks the column, or its value is not text.
        """
        if column not in self.columns:
            raise self.error(f"The row has no column {column!r}", do=suggest_column(column, self.columns))
        return self.check_text(self.columns[column], f"column {column!r}")

    def check_text(self, value: Any, location: str) -> str:
        """Return the value, after a check that it is text that can be encoded as UTF-8.

        Args:
            value: the value.
            location: location of the value in the row, for error messages.

        Raises:
            InstructLabError: the value is not such a text.
        """
        if not isinstance(value, str):
            what = f"Text was expected and {type(value).__name__} found: {repr(value)[:60]}"
            raise self.error(what, location, "Correct the row")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                what = f"The text contains half of a surrogate pair at character {error.start}"
                raise self.error(what, location, "Correct the row") from error
        return value

    def error(self, what: str, location: str = "", do: str = "") -> InstructLabError:
        """Return an error that names the file and line of this row.

        Args:
            what: the fault.
            location: location of the fault inside the row; empty if the whole row is meant.
            do: the next step for the user.
        """
        return InstructLabError(what, where=f"{self.where}, {location}" if location else self.where, do=do)


def suggest_column(column: str, available: Iterable[str]) -> str:
    """Return a hint for a missing column: the column with the nearest spelling, and all columns."""
    names = [str(name) for name in available]
    close = nearest(column, names)
    return (f"Did you mean {close!r}? " if close else "") + f"Name one of the columns: {', '.join(names) or 'none'}"


@dataclasses.dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that cannot be read, together with the error.

    A data set drops and counts such rows. If their proportion is larger than allowed, it raises the error of the first
    of them, with their number added.
    """

    error: InstructLabError


@component
class Source(Component, ABC):
    """Base class of data sources, which read rows from files, packages or the Hub."""

    keeps_one_of_equal_rows: ClassVar[bool] = False
    """Whether only the first of several equal rows in a split is kept."""

    max_rows: Annotated[int, Field(ge=1)] | None = None  # maximum number of rows to read; null: all
    shuffle_buffer: Annotated[int, Field(ge=0)] = 0  # number of rows in memory for shuffling; 0: no shuffling
    shuffle_seed: Annotated[int, Field(ge=0)] = 0  # seed of the shuffling

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the inputs of the source, such as files, each identified by a SHA-256.

        Args:
            cache_path: folder for downloads.

        Raises:
            InstructLabError: an input is missing, or cannot be read or downloaded.
        """

    @abstractmethod
    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Read the rows one by one; only a bounded number of rows is in memory at a time.

        Args:
            cache_path: folder for downloads.
            audit: audit in which the source counts the rows that it drops.
            stage: the name under which the audit counts these rows.

        Raises:
            InstructLabError: the source cannot be read to its end.
        """

    def read(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Yield up to `max_rows` rows; they are shuffled if `shuffle_buffer` is not 0."""
        rows = self.rows(cache_path, audit, stage)
        if self.shuffle_buffer:
            rows = shuffle(rows, self.shuffle_buffer, self.shuffle_seed)
        return itertools.islice(rows, self.max_rows)

    def stream(self, cache_path: Path, position: SourcePosition) -> RowStream:
        """Return a stream of all rows after a position, in their original order; `max_rows` does not apply.

        Args:
            cache_path: folder for downloads.
            position: a position that an earlier stream returned; an empty dictionary means the beginning.
        """
        return skip_to(self.rows(cache_path, Audit(), "stream"), position)

    def location_fields(self) -> set[str]:
        """Return the names of the fields that only locate the inputs, such as a path; cache keys leave them out."""
        return set()

    def known_columns(self) -> list[str] | None:
        """Return the column names, or `None` if they are not known without reading the source."""
        return None

    def first_rows(self) -> list[Row]:
        """Return a few rows from the beginning; an empty list if reading them takes long or needs a heavy library."""
        return []


def shuffle(rows: Iterable[T], buffer: int, seed: int) -> Iterator[T]:
    """Yield rows in random order, from a buffer of `buffer` rows that is refilled with later rows.

    The order depends only on the seed and the rows. Source: the shuffle buffer of `tf.data` and WebDataset.
    """
    source = random.Random(seed)
    held: list[T] = []
    for row in rows:
        if len(held) < buffer:
            held.append(row)
            continue
        index = int(source.random() * buffer)
        yield held[index]
        held[index] = row
    while held:
        index = int(source.random() * len(held))
        held[index], held[-1] = held[-1], held[index]
        yield held.pop()
