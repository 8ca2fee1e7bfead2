"""Writing conversations to Arrow files, one by one or in record batches."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.cache.arrow import BATCH_BYTES, BATCH_ROWS, BatchWriter, concat_batches
from instruct_lab.data.conversation import Conversation
from instruct_lab.data.table import COLUMNS, read_batch, schema
from instruct_lab.progress import advance

if TYPE_CHECKING:
    import pyarrow


class BatchBuilder:
    """Collects conversations for a record batch."""

    def __init__(self) -> None:
        self._columns: list[list[Any]] = [[] for _ in COLUMNS]
        self.num_characters = 0

    def __len__(self) -> int:
        return len(self._columns[0])

    @property
    def is_full(self) -> bool:
        """Whether the batch has reached its limit of rows or bytes."""
        return len(self) >= BATCH_ROWS or self.num_characters >= BATCH_BYTES

    def add(self, conversation: Conversation, source: str | None = None) -> None:
        """Add a conversation to the batch.

        Args:
            conversation: the conversation.
            source: the name to store as the conversation's data source; `None` keeps the one that it has.
        """
        ids, sources, roles, contents, trained, references, rejected_roles, rejected, metadata, *rest = self._columns
        weights, origins, desirable = rest
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
        origins.append(conversation.origin)
        desirable.append(conversation.desirable)
        self.num_characters += sum(map(len, contents[-1]))

    def take(self) -> pyarrow.RecordBatch:
        """Return the rows as a record batch, which may be empty, and clear the builder."""
        import pyarrow as pa

        kinds = schema()
        arrays = [_array(column, kind.type) for column, kind in zip(self._columns, kinds, strict=True)]
        self._columns, self.num_characters = [[] for _ in COLUMNS], 0
        return pa.record_batch(arrays, schema=kinds)


class ConversationWriter:
    """Writes conversations to an Arrow file, while only a limited number of them is in memory.

    Args:
        path: path of the file, which is complete once the writer is closed.
    """

    def __init__(self, path: Path) -> None:
        self._writer = BatchWriter(path, schema())
        self._builder = BatchBuilder()

    def __enter__(self) -> ConversationWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.write(self._builder.take())
        self._writer.__exit__()

    @property
    def num_rows(self) -> int:
        """The number of conversations passed to the writer so far."""
        return self._writer.num_rows + len(self._builder)

    def write(self, conversation: Conversation) -> None:
        """Add a conversation to the current record batch; a full batch is written to the file."""
        self._builder.add(conversation)
        advance()
        if self._builder.is_full:
            self._writer.write(self._builder.take())

    def write_batch(self, batch: pyarrow.RecordBatch) -> None:
        """Write a record batch, which may be empty, after the conversations added so far."""
        if len(self._builder):
            self._writer.write(self._builder.take())
        self._writer.write(batch)


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write conversations to an Arrow file and return their number."""
    with ConversationWriter(path) as writer:
        for conversation in conversations:
            writer.write(conversation)
    return writer.num_rows


def rewrite_batch(
    batch: pyarrow.RecordBatch, change: Callable[[list[Conversation]], Iterable[Conversation]]
) -> pyarrow.RecordBatch | None:
    """Apply `change` to the rows of a batch, and return the new batch; return `None` if no row changes.

    A conversation that `change` returns unchanged (the same object) is copied from the batch without being encoded
    again.
    """
    import pyarrow as pa

    rows = list(read_batch(batch))
    indices = {id(row): index for index, row in enumerate(rows)}
    order, new = [], BatchBuilder()
    for conversation in change(rows):
        index = indices.get(id(conversation))
        if index is None:
            index = len(rows) + len(new)
            new.add(conversation)
        order.append(index)
    if not len(new):
        return None if order == list(range(len(rows))) else batch.take(pa.array(order, pa.int64()))
    return concat_batches([batch, new.take()]).take(pa.array(order, pa.int64()))


def _array(column: list[Any], kind: Any) -> pyarrow.Array:
    """Build an Arrow array; nested lists are built from all their elements at once, which is faster than one by one."""
    import pyarrow as pa

    if not pa.types.is_list(kind):
        return pa.array(column, type=kind)
    offsets = pa.array(itertools.accumulate(map(len, column), initial=0), type=pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(list(itertools.chain(*column)), type=kind.value_type), type=kind)
