"""Incremental reading of the rows of a file; errors name the line or row.

An invalid row of JSON lines or CSV is a `BrokenRow`, and reading continues. A fault that makes the rest of the file
unreadable (a truncated JSON list or Parquet file) is an error.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.data.sources.json_rows import read_json_lines, read_json_list
from instruct_lab.errors import InstructLabError, wrap_errors

FIRST_LOOK_BYTES = 1 << 20


def read_rows(file: Path, file_format: str, delimiter: str = ",") -> Iterator[Row | BrokenRow]:
    """Yield the rows of one file, in order.

    Args:
        file: the file.
        file_format: json, jsonl, csv or parquet.
        delimiter: the delimiter of CSV.

    Raises:
        InstructLabError: the file cannot be read to its end; the error names the line or row.
    """
    with wrap_read_errors(file):
        if file_format == "parquet":
            yield from _read_parquet(file)
        elif file_format == "json":
            with file.open(encoding="utf-8-sig") as text:
                yield from read_json_list(text, str(file))
        elif file_format == "jsonl":
            with file.open("rb") as lines:
                yield from read_json_lines(lines, str(file))
        else:
            with file.open(encoding="utf-8-sig", newline="") as text:
                yield from _read_csv(text, str(file), delimiter)


@contextlib.contextmanager
def wrap_read_errors(file: Path) -> Iterator[None]:
    """Raise disk errors and decoding errors as `InstructLabError`."""
    try:
        with wrap_errors(
            OSError, what="The file cannot be read", where=str(file), do="Check the path and its permissions"
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
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return number


def first_columns(file: Path, file_format: str, delimiter: str) -> list[str] | None:
    """Read the column names of a file from its first megabyte; `None` if they cannot be determined."""
    if file_format == "parquet":
        return None
    with file.open("rb") as stream:
        text = stream.read(FIRST_LOOK_BYTES).decode("utf-8-sig", errors="replace")
    if file_format == "csv":
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), None)
    start = text.lstrip()
    if file_format == "json":
        start = start.removeprefix("[").lstrip()
    try:
        first, _ = json.JSONDecoder().raw_decode(start)
    except ValueError:
        return None
    return list(first) if isinstance(first, dict) else None


def _read_csv(text: IO[str], name: str, delimiter: str) -> Iterator[Row | BrokenRow]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        header = next(reader, None)
        if header is None:
            return
        twice = sorted({column for column in header if header.count(column) > 1})
        if twice:
            raise InstructLabError(f"The header names the column {twice[0]!r} twice", where=f"{name}, line 1")
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{name}, line {line}", reader.line_num + 1
            if not values:
                continue
            if len(values) == len(header):
                yield Row(dict(zip(header, values, strict=True)), where, sum(map(len, values)))
                continue
            what = f"The row has {len(values)} values and the header {len(header)} columns"
            yield BrokenRow(
                InstructLabError(what, where=where, do="Quote values that contain the delimiter, or set delimiter")
            )
    except csv.Error as error:
        raise InstructLabError(
            f"This is not CSV ({error})", where=f"{name}, line {line}", do="Correct the file"
        ) from error


def _read_parquet(file: Path) -> Iterator[Row]:
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
            for batch in opened.iter_batches(batch_size=1000):
                size = batch.nbytes // max(1, batch.num_rows)
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(columns, f"{file}, row {number}", size)
