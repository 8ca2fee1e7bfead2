"""Conversations on disk: a memory-mapped Arrow file, read as a sequence."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from instruct_lab.cache import map_in_order
from instruct_lab.cache.arrow import BATCH_ROWS, ArrowFile, BatchWriter
from instruct_lab.data.conversation import Conversation, Message

if TYPE_CHECKING:
    import numpy
    import pyarrow

T = TypeVar("T")

COLUMNS = (
    *("id", "source", "roles", "contents", "trained", "references", "rejected_roles", "rejected", "metadata"),
    "weights",  # weights of the messages; an empty list if every weight is 1
    "origin",
    "desirable",  # the label of the final answer, or null
)


def schema() -> pyarrow.Schema:
    """Return the schema of an Arrow file of conversations.

    The roles and texts of the messages are parallel lists, and the metadata are JSON text.
    """
    import pyarrow as pa

    texts = pa.list_(pa.string())
    kinds = [pa.string(), pa.string(), texts, texts, pa.list_(pa.bool_()), texts, texts, texts, pa.string()]
    kinds += [pa.list_(pa.float64()), pa.string(), pa.bool_()]
    return pa.schema(zip(COLUMNS, kinds, strict=True))


class ConversationTable(Sequence[Conversation]):
    """The conversations of an Arrow file; each is decoded when it is accessed."""

    def __init__(self, path: Path) -> None:
        self._file = ArrowFile(path)
        self.path = path

    def __len__(self) -> int:
        return len(self._file)

    def __iter__(self) -> Iterator[Conversation]:
        for batch in self.batches:
            yield from read_batch(batch)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | list[Conversation]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        batch, row = self._file.locate(index + len(self) if index < 0 else index)
        (conversation,) = self.read_piece(batch, row, 1)
        return conversation

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which cannot be hashed

    def __repr__(self) -> str:
        return f"<{len(self):,} conversations in {self.path.name}>"

    def __reduce__(self) -> tuple[type[ConversationTable], tuple[Path]]:
        return ConversationTable, (self.path.resolve(),)

    @property
    def batches(self) -> list[pyarrow.RecordBatch]:
        """The record batches of the file, in order."""
        return self._file.batches

    def pieces(self, num_rows: int) -> Iterator[tuple[int, int, int]]:
        """Divide the batches into slices of at most `num_rows` rows; yield batch index, start and length of each."""
        for index, batch in enumerate(self.batches):
            for start in range(0, batch.num_rows, num_rows):
                yield index, start, min(num_rows, batch.num_rows - start)

    def read_piece(self, batch: int, start: int, num_rows: int) -> Iterator[Conversation]:
        """Read the conversations in a slice of a batch; `pieces` yields the arguments for this method."""
        return read_batch(self.batches[batch].slice(start, num_rows))

    def ids(self) -> Iterator[str]:
        """Yield the id of every conversation, in order, without reading other columns."""
        for batch in self.batches:
            yield from batch.column("id").to_pylist()

    def sources(self) -> dict[str, int]:
        """Count the conversations of each source."""
        counts: dict[str, int] = {}
        for batch in self.batches:
            for entry in batch.column("source").value_counts().to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
        return counts

    def source_names(self) -> numpy.ndarray:
        """Return the name of the source of every conversation, in order, as an array of texts."""
        import numpy as np

        parts = [batch.column("source").to_numpy(zero_copy_only=False) for batch in self.batches]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=object)

    def lowest_ids(self, count: int, flags: bytearray | None = None) -> set[int]:
        """Return the indices of the `count` rows with the lowest ids. An id is a hash of the row's content.

        `flags` has a 0 or a 1 for each row. If it is given, only rows with a 1 are considered.
        """
        ids = ((id_, index) for index, id_ in enumerate(self.ids()) if flags is None or flags[index])
        return {index for _, index in heapq.nsmallest(count, ids)}

    def write_rows(self, path: Path, indices: numpy.ndarray) -> int:
        """Write the rows at the given indices to a new file, and return the number of rows written.

        The rows are in the order of the indices; a row is repeated if its index is.
        """
        import pyarrow as pa

        table = pa.Table.from_batches(self.batches, schema())
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema()) as writer:
            for start in range(0, len(indices), BATCH_ROWS):
                for batch in table.take(indices[start : start + BATCH_ROWS]).to_batches():
                    writer.write_batch(batch)
        return len(indices)

    def write_selected(self, path: Path, flags: bytearray) -> int:
        """Write the rows whose flag is 1 to a new file, without decoding them, and return their number."""
        import numpy as np
        import pyarrow as pa

        keep = pa.array(np.frombuffer(flags, dtype=bool))
        with BatchWriter(path, schema()) as writer:
            for start, batch in zip(self._file.starts, self.batches, strict=False):
                writer.write(batch.filter(keep.slice(start, batch.num_rows)))
        return writer.num_rows


def read_batch(batch: pyarrow.RecordBatch) -> Iterator[Conversation]:
    """Decode the conversations of a record batch."""
    columns = [batch.column(name).to_pylist() for name in COLUMNS]
    for row in zip(*columns, strict=True):
        id_, source, roles, contents, trained, references, rejected_roles, rejected, metadata, weights, *rest = row
        yield Conversation(
            tuple(map(Message, roles, contents, trained, weights or itertools.repeat(1.0))),
            id_,
            tuple(references),
            json.loads(metadata) if metadata else {},
            tuple(map(Message, rejected_roles, rejected)),
            source,
            *rest,
        )


def map_conversations(function: Callable[[Conversation], T], rows: Sequence[Conversation]) -> Iterator[T]:
    """Apply a function to every conversation, and return the results in order.

    For a `ConversationTable`, the work is divided among the worker processes, if there are any.
    """
    if not isinstance(rows, ConversationTable):
        return map(function, rows)
    return itertools.chain.from_iterable(map_in_order(_MapBatch(function, rows), range(len(rows.batches))))


@dataclasses.dataclass(frozen=True)
class _MapBatch:
    """Applies a function to every conversation of one record batch, whose index in the table is given."""

    function: Callable[[Conversation], Any]
    rows: ConversationTable

    def __call__(self, index: int) -> list[Any]:
        return list(map(self.function, read_batch(self.rows.batches[index])))


@dataclasses.dataclass(frozen=True, slots=True)
class RowText:
    """The text of a row, decoded only when it is needed: an audit counts many rows but stores only a few samples."""

    rows: Sequence[Conversation]
    index: int

    def __str__(self) -> str:
        return str(self.rows[self.index])

    @property
    def conversation(self) -> Conversation:
        """The conversation whose text this is."""
        return self.rows[self.index]
