"""The base class of sources, and the rows that they give."""

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
    """One row.

    Args:
        columns: values by name.
        where: the file and line (or row) it was read from, for errors.
        size: its approximate bytes in the file; 0: unknown.
    """

    columns: dict[str, Any]
    where: str
    size: int = 0

    def text(self, column: str) -> str:
        """The text of a column.

        Raises:
            InstructLabError: the row lacks the column, or its value is not text.
        """
        if column not in self.columns:
            raise self.error(f"The row has no column {column!r}", do=suggest_column(column, self.columns))
        return self.check_text(self.columns[column], f"column {column!r}")

    def check_text(self, value: Any, location: str) -> str:
        """Return the value if it is text that can be encoded as UTF-8.

        Args:
            value: the value.
            location: where it is in the row, for errors.

        Raises:
            InstructLabError: it is not.
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
        """An error about this row that names its file and line, and the location in the row."""
        return InstructLabError(what, where=f"{self.where}, {location}" if location else self.where, do=do)


def suggest_column(column: str, available: Iterable[str]) -> str:
    """A hint for a missing column: the nearest spelling, and all columns that exist."""
    names = [str(name) for name in available]
    close = nearest(column, names)
    return (f"Did you mean {close!r}? " if close else "") + f"Name one of the columns: {', '.join(names) or 'none'}"


@dataclasses.dataclass(frozen=True, slots=True)
class BrokenRow:
    """Something in the source that should be a row and is not; the data set counts it or raises the error."""

    error: InstructLabError


@component
class Source(Component, ABC):
    """Where rows come from."""

    keeps_one_of_equal_rows: ClassVar[bool] = False
    """Whether equal rows are duplicates by nature, so that a split keeps only the first of them."""

    max_rows: Annotated[int, Field(ge=1)] | None = None  # rows to read at most; null: all
    shuffle_buffer: Annotated[int, Field(ge=0)] = 0  # rows held in memory for shuffling; 0: not shuffled
    shuffle_seed: Annotated[int, Field(ge=0)] = 0  # seed of the shuffling

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """The pinned inputs that the rows are read from, with the SHA-256 of their bytes; reads no rows.

        Args:
            cache_path: folder for downloads.

        Raises:
            InstructLabError: an input is missing, or cannot be read or downloaded.
        """

    @abstractmethod
    def rows(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """Read the rows one by one, with a bounded number in memory at a time.

        Args:
            cache_path: folder for downloads.
            audit: counts what the source drops by its own rules.
            stage: the name that the audit counts under.

        Raises:
            InstructLabError: the source cannot be read to its end.
        """

    def read(self, cache_path: Path, audit: Audit, stage: str) -> Iterator[Row | BrokenRow]:
        """The rows, shuffled through the buffer if there is one, up to `max_rows`."""
        rows = self.rows(cache_path, audit, stage)
        if self.shuffle_buffer:
            rows = shuffle(rows, self.shuffle_buffer, self.shuffle_seed)
        return itertools.islice(rows, self.max_rows)

    def location_fields(self) -> set[str]:
        """Fields that say where the inputs are and not what they contain: cache keys do not depend on them."""
        return set()

    def known_columns(self) -> list[str] | None:
        """The column names if they are known without reading the source, else None."""
        return None


def shuffle(rows: Iterable[T], buffer: int, seed: int) -> Iterator[T]:
    """Rows in random order, with `buffer` of them in memory; each is replaced by a later one.

    Source: the bounded shuffle buffer of `tf.data` and WebDataset. Depends only on the seed and the rows.
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
