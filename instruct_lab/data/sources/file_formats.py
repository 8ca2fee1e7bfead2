"""Reading of a file's rows one by one; errors name the line or row.

An invalid row of JSON lines or CSV is a `BrokenRow`, and reading continues. A fault that makes the rest of the file
unreadable (a truncated JSON list or Parquet file) is an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.data.sources.compressed import DECOMPRESSION_ERRORS, open_bytes
from instruct_lab.data.sources.csv_rows import Quoting, Spacing, read_csv
from instruct_lab.data.sources.json_rows import read_json_lines, read_json_list
from instruct_lab.errors import InstructLabError, wrap_errors


@dataclasses.dataclass(frozen=True)
class FileLayout:
    """The layout of a file's rows.

    Args:
        file_format: json, jsonl, csv or parquet.
        delimiter: the character between the values of a CSV file; `None` means a comma.
        quoting: how quotation marks in CSV files are read: `standard`, `none` (as ordinary characters) or `auto`.
        spacing: what happens to spaces after the delimiters in CSV files: `skip`, `keep` or `auto`.
        records: the keys, joined by dots, that lead to the list of rows in a JSON file; `None` means that the file
            itself is the list.
    """

    file_format: str
    delimiter: str | None = None
    quoting: Quoting = "auto"
    spacing: Spacing = "auto"
    records: str | None = None


def read_rows(file: Path, layout: FileLayout, rows_at_once: int = 1000) -> Iterator[Row | BrokenRow]:
    """Read the rows of one file, in order.

    Args:
        file: the file.
        layout: the layout of the file's rows.
        rows_at_once: number of rows that are decoded together from Parquet.

    Raises:
        InstructLabError: the file cannot be read to its end; the error names the line or row.
    """
    with wrap_read_errors(file):
        if layout.file_format == "parquet":
            yield from _read_parquet(file, rows_at_once)
            return
        with open_bytes(file) as stream:
            if layout.file_format == "jsonl":
                yield from read_json_lines(stream, str(file))
            elif layout.file_format == "json":
                keys = layout.records.split(".") if layout.records else []
                yield from read_json_list(io.TextIOWrapper(stream, encoding="utf-8-sig"), str(file), keys)
            else:
                text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
                yield from read_csv(text, str(file), layout.delimiter, layout.quoting, layout.spacing)


@contextlib.contextmanager
def wrap_read_errors(file: Path) -> Iterator[None]:
    """Convert disk errors and decoding errors to `InstructLabError`."""
    try:
        broken = "The compressed file is broken off, or not of the kind that its ending names"
        with (
            wrap_errors(
                OSError, what="The file cannot be read", where=str(file), do="Check the path and its permissions"
            ),
            wrap_errors(*DECOMPRESSION_ERRORS, what=broken, where=str(file), do="Copy or re-create the file"),
        ):
            yield
    except UnicodeDecodeError as error:
        raise InstructLabError(
            f"The file is not UTF-8 text ({error.reason})",
            where=f"{file}, line {_first_undecodable_line(file)}",
            do="Convert it to UTF-8, for example with iconv",
        ) from error


def _first_undecodable_line(file: Path) -> int:
    number = 0
    with open_bytes(file) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return number


def _read_parquet(file: Path, rows_at_once: int) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    with wrap_errors(
        pyarrow.ArrowException,
        OSError,
        what="This is not a complete Parquet file",
        where=str(file),
        do="Copy or re-create the file",
    ):
        number = 0
        with pyarrow.parquet.ParquetFile(file, memory_map=True) as opened:
            for batch in opened.iter_batches(batch_size=rows_at_once):
                size = batch.nbytes // max(1, batch.num_rows)
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(columns, f"{file}, row {number}", size, has_padding=True)
