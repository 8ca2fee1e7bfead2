"""Examples on disk: a memory-mapped Arrow file, read as a sequence and written in record batches.

File format: Apache Arrow IPC.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from instruct_lab.batching.example import Example
from instruct_lab.cache.arrow import ArrowFile

if TYPE_CHECKING:
    import numpy
    import pyarrow

BATCH_EXAMPLES = 1000
BATCH_TOKENS = 1 << 20
MODEL_COLUMNS = ("input_ids", "labels", "weights", "rejected_input_ids", "rejected_labels")
"""The columns of a file of examples that affect training and evaluation."""


def schema() -> pyarrow.Schema:
    """Return the schema of a file of examples."""
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("input_ids", pa.list_(pa.int32())),
            ("labels", pa.list_(pa.int32())),
            ("num_target_tokens", pa.int32()),
            ("weights", pa.list_(pa.float32())),  # null: every weight is 1
            ("rejected_input_ids", pa.list_(pa.int32())),  # null: no pair
            ("rejected_labels", pa.list_(pa.int32())),
            ("desirable", pa.bool_()),  # null: no label
        ]
    )


class ExampleTable(Sequence[Example]):
    """The examples of an Arrow file; an example is read from the file each time it is accessed."""

    def __init__(self, path: Path) -> None:
        self._file = ArrowFile(path)
        self.path = path

    def __len__(self) -> int:
        return len(self._file)

    def __iter__(self) -> Iterator[Example]:
        for batch in self._file.batches:
            for row in range(batch.num_rows):
                yield _example(batch, row)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        batch, row = self._file.locate(int(index) + len(self) if index < 0 else int(index))
        return _example(self._file.batches[batch], row)

    def __repr__(self) -> str:
        return f"<{len(self):,} examples in {self.path.name}>"

    def ids(self) -> Iterator[str]:
        """Yield the id of every example, in order."""
        for batch in self._file.batches:
            yield from batch.column("id").to_pylist()

    @functools.cached_property
    def lengths(self) -> numpy.ndarray:
        """The number of tokens of each example, int32 `[examples]`."""
        return self._column(functools.partial(_value_lengths, name="input_ids"))

    @functools.cached_property
    def widths(self) -> numpy.ndarray:
        """The number of tokens of each sequence of each example, `[examples, sequences]`.

        An example has one sequence; a preference pair has two, one for each answer. An encoder-decoder's labels are
        padded separately, so they count as sequences too.
        """
        from instruct_lab.batching.token_budget import join_widths

        columns = ("input_ids", "labels", "rejected_input_ids", "rejected_labels")
        return join_widths(*(self._column(functools.partial(_value_lengths, name=name)) for name in columns))

    @functools.cached_property
    def target_lengths(self) -> numpy.ndarray:
        """The number of target tokens of each example, int32 `[examples]`."""
        return self._column(lambda batch: batch.column("num_target_tokens"))

    def labels(self) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
        """Yield two integer arrays for each record batch of the file.

        The first array, `[tokens]`, holds the labels of the record batch's examples end to end. The second array,
        `[examples + 1]`, holds the index at which each example begins in the first array, and at last that array's
        length.
        """
        for batch in self._file.batches:
            column = batch.column("labels")
            offsets = column.offsets.to_numpy()
            yield column.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0]

    def _column(self, of: Any) -> numpy.ndarray:
        import numpy as np

        parts = [of(batch).to_numpy(zero_copy_only=False) for batch in self._file.batches]
        return np.concatenate([np.zeros(0, np.int32), *parts]).astype(np.int32)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the token ids, labels, weights, rejected answers and `desirable` of all examples."""
        digests = {name: (hashlib.sha256(), hashlib.sha256()) for name in MODEL_COLUMNS}
        desirable, is_labelled = hashlib.sha256(), False
        for batch in self._file.batches:
            for name, (lengths, values) in digests.items():
                column = batch.column(name)
                lengths.update(column.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False).tobytes())
                values.update(column.flatten().to_numpy(zero_copy_only=False).tobytes())
            column = batch.column("desirable")
            is_labelled = is_labelled or column.null_count < len(column)
            desirable.update(column.cast("int8").fill_null(-1).to_numpy(zero_copy_only=False).tobytes())
        used = [digest for both in digests.values() for digest in both] + [desirable] * is_labelled
        return hashlib.sha256(b"".join(digest.digest() for digest in used)).hexdigest()


def write_batches(path: Path, record_batches: Iterable[pyarrow.RecordBatch]) -> int:
    """Write record batches of examples to an Arrow file and return the number of examples."""
    import pyarrow as pa

    count = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema()) as writer:
        for batch in record_batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def to_batches(examples: Iterable[Example]) -> Iterator[pyarrow.RecordBatch]:
    """Convert examples to record batches of a bounded size."""
    held: list[Example] = []
    tokens = 0
    for example in examples:
        held.append(example)
        tokens += len(example.input_ids)
        if len(held) >= BATCH_EXAMPLES or tokens >= BATCH_TOKENS:
            yield _batch(held)
            held, tokens = [], 0
    if held:
        yield _batch(held)


def _value_lengths(batch: pyarrow.RecordBatch, name: str) -> pyarrow.Array:
    return batch.column(name).value_lengths().fill_null(0)


def _batch(examples: list[Example]) -> pyarrow.RecordBatch:
    import pyarrow as pa

    columns = schema()
    return pa.record_batch(
        [
            pa.array([example.id for example in examples], pa.string()),
            pa.array([example.source for example in examples], pa.string()),
            _lists([example.input_ids for example in examples]),
            _lists([example.labels for example in examples]),
            pa.array([example.num_target_tokens for example in examples], pa.int32()),
            _optional([example.weights for example in examples], columns.field("weights").type),
            _optional(
                [None if example.rejected is None else example.rejected.input_ids for example in examples],
                columns.field("rejected_input_ids").type,
            ),
            _optional(
                [None if example.rejected is None else example.rejected.labels for example in examples],
                columns.field("rejected_labels").type,
            ),
            pa.array([example.desirable for example in examples], pa.bool_()),
        ],
        schema=columns,
    )


def _lists(rows: list[list[int]]) -> pyarrow.ListArray:
    """Convert lists of integers to an Arrow array, much faster than Arrow's own conversion of nested lists."""
    import numpy as np
    import pyarrow as pa

    lengths = list(map(len, rows))
    offsets = pa.array(itertools.accumulate(lengths, initial=0), type=pa.int32())
    values = np.fromiter(itertools.chain.from_iterable(rows), np.int32, sum(lengths))
    return pa.ListArray.from_arrays(offsets, pa.array(values))


def _optional(rows: Sequence[Any], kind: pyarrow.DataType) -> pyarrow.Array:
    import pyarrow as pa

    return pa.nulls(len(rows), kind) if all(row is None for row in rows) else pa.array(rows, kind)


def _example(batch: pyarrow.RecordBatch, row: int) -> Example:
    rejected = None
    if batch.column("rejected_input_ids")[row].is_valid:
        rejected = Example(_list(batch, "rejected_input_ids", row), _list(batch, "rejected_labels", row))
    return Example(
        _list(batch, "input_ids", row),
        _list(batch, "labels", row),
        batch.column("id")[row].as_py(),
        batch.column("source")[row].as_py(),
        _list(batch, "weights", row) if batch.column("weights")[row].is_valid else None,
        rejected,
        desirable=batch.column("desirable")[row].as_py(),
    )


def _list(batch: pyarrow.RecordBatch, name: str, row: int) -> list[Any]:
    column = batch.column(name)
    start, end = column.offsets[row].as_py(), column.offsets[row + 1].as_py()
    values: list[Any] = column.values[start:end].to_numpy().tolist()
    return values
