"""Conversations on disk: an Arrow file that is memory-mapped, read as a sequence, written row by row or by batches.

Source of the format: Apache Arrow IPC file format. Texts of one record batch stay under `BATCH_BYTES`, so that what is
held in memory at a time has a bound that the number of rows does not move.
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from instruct_lab.cache.parallel import in_order
from instruct_lab.data.conversation import Conversation, Message

if TYPE_CHECKING:
    import numpy
    import pyarrow

T = TypeVar("T")

BATCH_ROWS = 1000
BATCH_BYTES = 32 << 20
COLUMNS = (
    *("id", "source", "roles", "contents", "trained", "references", "rejected_roles", "rejected", "metadata"),
    "weights",  # of the messages; none where each counts 1
)


def schema() -> pyarrow.Schema:
    """The columns of a file of conversations; messages are parallel lists, metadata is JSON."""
    import pyarrow as pa

    texts = pa.list_(pa.string())
    kinds = [pa.string(), pa.string(), texts, texts, pa.list_(pa.bool_()), texts, texts, texts, pa.string()]
    kinds.append(pa.list_(pa.float64()))
    return pa.schema(zip(COLUMNS, kinds, strict=True))


class ArrowFile:
    """A whole Arrow file, memory-mapped: rows by record batch.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self.path = path
        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.batches = [self._reader.get_batch(index) for index in range(self._reader.num_record_batches)]
        self.starts = [0, *itertools.accumulate(batch.num_rows for batch in self.batches)]

    def __len__(self) -> int:
        return self.starts[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """The record batch that holds a row, and the row's number in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch = bisect.bisect_right(self.starts, index) - 1
        return batch, index - self.starts[batch]


class ConversationTable(Sequence[Conversation]):
    """Conversations of an Arrow file; reads them as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._file = ArrowFile(path)
        self.path = path

    def __len__(self) -> int:
        return len(self._file)

    def __iter__(self) -> Iterator[Conversation]:
        for batch in self._file.batches:
            yield from _conversations(batch)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | list[Conversation]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        batch, row = self._file.locate(index + len(self) if index < 0 else index)
        (conversation,) = _conversations(self._file.batches[batch].slice(row, 1))
        return conversation

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"<{len(self):,} conversations in {self.path.name}>"

    def __reduce__(self) -> tuple[type[ConversationTable], tuple[Path]]:
        return ConversationTable, (self.path.resolve(),)

    @property
    def batches(self) -> list[pyarrow.RecordBatch]:
        """The record batches, in order."""
        return self._file.batches

    def pieces(self, num_rows: int) -> Iterator[tuple[int, int, int]]:
        """Every record batch, cut into pieces of so many rows at most: its number, the first row, how many."""
        for number, batch in enumerate(self.batches):
            for start in range(0, batch.num_rows, num_rows):
                yield number, start, min(num_rows, batch.num_rows - start)

    def piece(self, number: int, start: int, num_rows: int) -> Iterator[Conversation]:
        """The conversations of such a piece."""
        return _conversations(self.batches[number].slice(start, num_rows))

    def ids(self) -> Iterator[str]:
        """The id of every conversation, in order, without reading anything else."""
        for batch in self._file.batches:
            yield from batch.column("id").to_pylist()

    def sources(self) -> dict[str, int]:
        """How many conversations came from each source."""
        counts: dict[str, int] = {}
        for batch in self._file.batches:
            for told in batch.column("source").value_counts().to_pylist():
                counts[told["values"]] = counts.get(told["values"], 0) + told["counts"]
        return counts

    def source_names(self) -> numpy.ndarray:
        """The source of every conversation, in order: str `[conversations]`."""
        import numpy as np

        parts = [batch.column("source").to_numpy(zero_copy_only=False) for batch in self._file.batches]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=object)

    def lowest_ids(self, count: int, flags: bytearray | None = None) -> set[int]:
        """The places of the rows whose content hash is lowest, among those whose flag is set."""
        ids = ((id_, index) for index, id_ in enumerate(self.ids()) if flags is None or flags[index])
        return {index for _, index in heapq.nsmallest(count, ids)}

    def write_taken(self, path: Path, order: numpy.ndarray) -> int:
        """Write rows by number, in that order and as often as they are named, to another file; returns how many."""
        import pyarrow as pa

        table = pa.Table.from_batches(self._file.batches, schema())
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema()) as writer:
            for start in range(0, len(order), BATCH_ROWS):
                for batch in table.take(order[start : start + BATCH_ROWS]).to_batches():
                    writer.write_batch(batch)
        return len(order)

    def write_selected(self, path: Path, flags: bytearray) -> int:
        """Write the rows whose flag is 1 to another file, without reading their texts; returns their number."""
        import numpy as np
        import pyarrow as pa

        keep = pa.array(np.frombuffer(flags, dtype=bool))
        with BatchWriter(path) as writer:
            for start, batch in zip(self._file.starts, self._file.batches, strict=False):
                writer.write(batch.filter(keep.slice(start, batch.num_rows)))
        return writer.num_rows


class BatchWriter:
    """Writes record batches of conversations to an Arrow file; small ones in a row become one.

    Args:
        path: the file; it is whole when the writer is closed.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema())
        self._held: list[pyarrow.RecordBatch] = []
        self._held_rows = self._held_bytes = 0
        self.num_rows = 0

    def __enter__(self) -> BatchWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()
        self._sink.close()

    def write(self, batch: pyarrow.RecordBatch) -> None:
        """Add rows, possibly none."""
        if not batch.num_rows:
            return
        if self._held_rows + batch.num_rows > 2 * BATCH_ROWS or self._held_bytes + batch.nbytes > BATCH_BYTES:
            self._flush()
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        self.num_rows += batch.num_rows
        if self._held_rows >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_batch(joined(self._held))
        self._held, self._held_rows, self._held_bytes = [], 0, 0


class ConversationWriter:
    """Writes conversations to an Arrow file; what is not flushed stays under a bound.

    Args:
        path: the file; it is whole when the writer is closed.
    """

    def __init__(self, path: Path) -> None:
        self._writer = BatchWriter(path)
        self._columns = Columns()
        self.num_rows = 0

    def __enter__(self) -> ConversationWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.__exit__()

    def write(self, conversation: Conversation) -> None:
        """Add one row."""
        self._columns.add(conversation)
        self.num_rows += 1
        if self._columns.is_full:
            self._flush()

    def _flush(self) -> None:
        self._writer.write(self._columns.taken())


class Columns:
    """Conversations that become a record batch."""

    def __init__(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in COLUMNS]
        self.num_characters = 0

    def __len__(self) -> int:
        return len(self._columns[0])

    @property
    def is_full(self) -> bool:
        """Whether it is time to take them."""
        return len(self) >= BATCH_ROWS or self.num_characters >= BATCH_BYTES

    def add(self, conversation: Conversation, source: str | None = None) -> None:
        """Add one row, under the name of its source, or of another."""
        ids, sources, roles, contents, trained, references, rejected_roles, rejected, metadata, weights = self._columns
        ids.append(conversation.id)
        sources.append(conversation.source if source is None else source)
        roles.append([message.role for message in conversation.messages])
        contents.append([message.content for message in conversation.messages])
        trained.append([message.trained for message in conversation.messages])
        references.append(conversation.references)
        rejected_roles.append([message.role for message in conversation.rejected])
        rejected.append([message.content for message in conversation.rejected])
        metadata.append(json.dumps(conversation.metadata, default=str) if conversation.metadata else "")
        weighted = any(message.weight != 1 for message in conversation.messages)
        weights.append([message.weight for message in conversation.messages] if weighted else ())
        self.num_characters += sum(map(len, contents[-1]))

    def taken(self) -> pyarrow.RecordBatch:
        """All of them, possibly none; nothing stays."""
        import pyarrow as pa

        kinds = schema()
        arrays = [_array(column, kind.type) for column, kind in zip(self._columns, kinds, strict=True)]
        self._columns, self.num_characters = [[] for _ in COLUMNS], 0
        return pa.record_batch(arrays, schema=kinds)


def joined(batches: Sequence[pyarrow.RecordBatch]) -> pyarrow.RecordBatch:
    """Record batches as one."""
    import pyarrow as pa

    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _array(column: list[Any], kind: Any) -> pyarrow.Array:
    """An Arrow array; one of lists is made of all their elements at once, which is faster than list by list."""
    import pyarrow as pa

    if not pa.types.is_list(kind):
        return pa.array(column, type=kind)
    offsets = pa.array(itertools.accumulate(map(len, column), initial=0), type=pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(list(itertools.chain(*column)), type=kind.value_type), type=kind)


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write conversations to an Arrow file; returns their number."""
    with ConversationWriter(path) as writer:
        for conversation in conversations:
            writer.write(conversation)
    return writer.num_rows


def rewritten(
    batch: pyarrow.RecordBatch, change: Callable[[list[Conversation]], Iterable[Conversation]]
) -> pyarrow.RecordBatch | None:
    """What becomes of the rows of a batch; None where they stay as they are.

    A conversation that `change` gives back itself is copied and not written anew.
    """
    import pyarrow as pa

    rows = list(_conversations(batch))
    places = {id(row): place for place, row in enumerate(rows)}
    order, fresh = [], Columns()
    for conversation in change(rows):
        place = places.get(id(conversation))
        if place is None:
            place = len(rows) + len(fresh)
            fresh.add(conversation)
        order.append(place)
    if not len(fresh):
        return None if order == list(range(len(rows))) else batch.take(pa.array(order, pa.int64()))
    return joined([batch, fresh.taken()]).take(pa.array(order, pa.int64()))


def each(work: Callable[[Conversation], T], rows: Sequence[Conversation]) -> Iterator[T]:
    """`map` over conversations; of those on disk, batch by batch, as `in_order` works."""
    if not isinstance(rows, ConversationTable):
        return map(work, rows)
    return itertools.chain.from_iterable(in_order(_Each(work, rows), range(len(rows.batches))))


@dataclasses.dataclass(frozen=True)
class _Each:
    """The answers of a function to the conversations of one batch."""

    work: Callable[[Conversation], Any]
    rows: ConversationTable

    def __call__(self, number: int) -> list[Any]:
        return list(map(self.work, _conversations(self.rows.batches[number])))


@dataclasses.dataclass(frozen=True, slots=True)
class RowText:
    """Text of a row that is read when it is asked for: most are not."""

    rows: Sequence[Conversation]
    number: int

    def __str__(self) -> str:
        return str(self.rows[self.number])


def _conversations(batch: pyarrow.RecordBatch) -> Iterator[Conversation]:
    columns = [batch.column(name).to_pylist() for name in COLUMNS]
    for id_, source, roles, contents, trained, references, rejected_roles, rejected, metadata, weights in zip(*columns):  # noqa: B905
        yield Conversation(
            tuple(map(Message, roles, contents, trained, weights or itertools.repeat(1.0))),
            id_,
            tuple(references),
            json.loads(metadata) if metadata else {},
            tuple(map(Message, rejected_roles, rejected)),
            source,
        )
