"""Conversion of a source's rows to conversations, in chunks of successive rows."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from instruct_lab.cache import map_in_order
from instruct_lab.data.audit import Audit
from instruct_lab.data.conversation import Conversation
from instruct_lab.data.formats.base import Format
from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.data.split import SPLIT_NAMES, HashSplit, SplitName
from instruct_lab.data.writing import BatchBuilder
from instruct_lab.errors import InstructLabError, LimitExceeded

if TYPE_CHECKING:
    import pyarrow

ALL_BROKEN = 100
"""Number of rows at the beginning of a source: if all are broken, the format must be wrong, so reading stops."""
FREQUENT = 0.1
FREQUENT_KEYS = "rows_by_frequent_key"
"""Name of the audit fact with the number of rows for each `HashSplit` key that is frequent.

A key is frequent if the proportion of a chunk's rows that have it is at least `FREQUENT`.
"""
PART_ROWS = 1000
PART_BYTES = 4 << 20
Part = tuple[list[Row | BrokenRow], bool]
"""Successive rows, and whether they are the first rows of the source."""


@dataclasses.dataclass(frozen=True)
class Mapped:
    """The conversations from one chunk of a source's rows.

    Args:
        batches: the conversations as Arrow record batches, each with the name of its split.
        num_rows: number of rows in the chunk.
        num_kept: number of conversations.
        num_broken: number of rows that were dropped because they are broken.
        first_error: the error of the first broken row; `None` if no row is broken.
        audit: counts and samples of the dropped rows.
    """

    batches: list[tuple[SplitName, pyarrow.RecordBatch]]
    num_rows: int
    num_kept: int
    num_broken: int
    first_error: InstructLabError | None
    audit: Audit


@dataclasses.dataclass(frozen=True)
class MapRows:
    """Converts the rows of one source to conversations.

    Args:
        format: the format that converts a row to conversations.
        split: the split that the source belongs to.
        division: the rule that divides the rows among the splits; with `None`, all rows belong to `split`.
        source: the name of the source.
        stage: the name under which the audit counts the dropped rows.
        seen_ids: ids of the conversations made so far; a new conversation with one of these ids is dropped. `None`
            keeps duplicates.
    """

    format: Format
    split: SplitName
    division: HashSplit | None
    source: str
    stage: str
    seen_ids: set[str] | None = None

    def map_all(self, rows: Iterator[Row | BrokenRow]) -> Iterator[Mapped]:
        """Convert every row, chunk by chunk; stop if the first `ALL_BROKEN` rows are all broken."""
        opening = self((list(itertools.islice(rows, ALL_BROKEN)), True))
        yield opening
        if opening.num_broken < ALL_BROKEN:
            parts = ((part, False) for part in _parts(rows))
            yield from map_in_order(self, parts) if self.seen_ids is None else map(self, parts)

    def __call__(self, part: Part) -> Mapped:
        """Convert one chunk of successive rows; `part` also says whether they are the first rows of the source."""
        rows, are_first = part
        audit, batches = Audit(), []
        columns = {name: BatchBuilder() for name in SPLIT_NAMES}
        num_kept = num_broken = 0
        unused: Counter[str] = Counter()
        keys: Counter[str] = Counter()
        first: InstructLabError | None = None
        for number, row in enumerate(rows):
            try:
                conversations = self._conversations(row, check=are_first and number == num_broken)
            except LimitExceeded:
                raise
            except InstructLabError as error:
                first, num_broken = first or error, num_broken + 1
                audit.record(self.stage, "dropped", f"broken row: {_reason(error)}", error)
                continue
            if isinstance(row, Row):
                unused.update(map(str, self.format.unused_columns(row)))
            for conversation in conversations:
                if self.seen_ids is not None:
                    if conversation.id in self.seen_ids:
                        audit.record(self.stage, "dropped", "same text and answer as before", conversation)
                        continue
                    self.seen_ids.add(conversation.id)
                num_kept += 1
                split = self.split
                if self.division is not None:
                    key = self.division.key(conversation)
                    keys[key] += 1
                    split = self.division.split_of_key(key)
                columns[split].add(conversation, self.source)
                if columns[split].is_full:
                    batches.append((split, columns[split].take()))
        batches += [(split, kept.take()) for split, kept in columns.items() if len(kept)]
        if self.division is not None:
            unused.pop(self.division.column or "", None)
        if unused:
            audit.add(self.stage, unused_columns=unused)
        frequent = {key: count for key, count in keys.items() if count >= FREQUENT * max(len(rows), 10)}
        if frequent:
            audit.add(self.stage, **{FREQUENT_KEYS: frequent})
        return Mapped(batches, len(rows), num_kept, num_broken, first, audit)

    def _conversations(self, row: Row | BrokenRow, check: bool) -> list[Conversation]:
        if isinstance(row, BrokenRow):
            raise row.error
        if check:
            self.format.check_columns(row)
        return list(self.format.conversations_of(row))


def _parts(rows: Iterator[Row | BrokenRow]) -> Iterator[list[Row | BrokenRow]]:
    part: list[Row | BrokenRow] = []
    size = 0
    for row in rows:
        part.append(row)
        size += row.size if isinstance(row, Row) else 0
        if len(part) >= PART_ROWS or size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _reason(error: InstructLabError) -> str:
    """Return the error message without row-specific details, so that equal faults are counted together."""
    return " ".join(re.sub(r"'(?:[^'\\]|\\.)*'|\"[^\"]*\"|\([^)]*\)|: .*$|(?<![\w-])\d+", "…", error.what).split())
