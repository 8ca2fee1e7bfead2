"""A stream of rows that can resume at a position, for data that is read during training and never stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instruct_lab.data.sources.base import BrokenRow, Row

SourcePosition = dict[str, Any]
"""A position in a source: plain values that a checkpoint can hold."""


class RowStream(Iterator["Row | BrokenRow"]):
    """An iterator over the rows of a source that knows its position.

    Args:
        rows: the rows after the start position.
        start: number of rows before the start position.
        reached: function that returns further entries of the current position, such as the state of the file reader;
            the number of rows is always an entry.
    """

    def __init__(
        self, rows: Iterator[Row | BrokenRow], start: int = 0, reached: Callable[[], SourcePosition] = dict
    ) -> None:
        self._rows, self._row, self._reached = rows, start, reached

    def __next__(self) -> Row | BrokenRow:
        row = next(self._rows)
        self._row += 1
        return row

    def position(self) -> SourcePosition:
        """Return the position after the last row that was yielded."""
        return {"row": self._row, **self._reached()}


def skip_to(rows: Iterator[Row | BrokenRow], position: SourcePosition) -> RowStream:
    """Read and discard all rows before a position, and return a stream of the remaining rows."""
    start = int(position.get("row", 0))
    return RowStream(itertools.islice(rows, start, None), start)
