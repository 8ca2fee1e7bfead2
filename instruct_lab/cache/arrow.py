"""Read rows from memory-mapped Arrow files, and write rows in record batches.

Source of the format: Apache Arrow IPC file format.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

BATCH_ROWS = 1000
BATCH_BYTES = 32 << 20
"""Maximum total size in bytes of joined batches, so that memory does not grow with the number of rows."""


class ArrowFile:
    """A complete, memory-mapped Arrow file whose rows can be located by their index.

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
        """Return the index of the record batch that holds a row, and the row's index in that batch."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch = bisect.bisect_right(self.starts, index) - 1
        return batch, index - self.starts[batch]


class BatchWriter:
    """Writes record batches to an Arrow file; small batches that follow each other are joined into a larger one.

    Args:
        path: the file, which is complete once the writer is closed.
        schema: the columns of every batch.
    """

    def __init__(self, path: Path, schema: pyarrow.Schema) -> None:
        import pyarrow as pa

        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)
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
        """Add the rows of a batch, which may be empty."""
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
            self._writer.write_batch(concat_batches(self._held))
        self._held, self._held_rows, self._held_bytes = [], 0, 0


def concat_batches(batches: Sequence[pyarrow.RecordBatch]) -> pyarrow.RecordBatch:
    """Join several record batches into one."""
    import pyarrow as pa

    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
