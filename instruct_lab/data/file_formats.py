"""Bytes of one file to rows, with the line or row of everything that is wrong in it."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.data.source import Row
from instruct_lab.errors import InstructLabError

FIRST_LOOK_BYTES = 1 << 20


def content(file: Path) -> bytes:
    """The file's bytes.

    Raises:
        InstructLabError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InstructLabError(
            f"The file cannot be read ({reason})", where=str(file), do="Check the path and its permissions"
        ) from error


def rows(data: bytes, name: str, file_format: str, delimiter: str = ",") -> Iterator[Row]:
    """The rows of one file.

    Args:
        data: the file's bytes.
        name: what errors call the file.
        file_format: json, jsonl, csv or parquet.
        delimiter: of CSV.

    Raises:
        InstructLabError: the bytes are not what the format says; names the line or the row.
    """
    if file_format == "parquet":
        yield from _parquet(data, name)
    elif data.strip():
        text = _decoded(data, name)
        if file_format == "json":
            yield from _json(text, name)
        elif file_format == "jsonl":
            yield from _json_lines(text, name)
        else:
            yield from _csv(text, name, delimiter)


def first_columns(file: Path, file_format: str, delimiter: str) -> list[str] | None:
    """The column names of a file's first row, read from its first megabyte; none where that cannot tell."""
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


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InstructLabError(
            f"The file is not UTF-8 text (byte {error.start}: {error.reason})",
            where=f"{name}, line {line}",
            do="Convert it to UTF-8, for example with iconv",
        ) from error


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise InstructLabError(
            f"An object of named columns was expected and {type(value).__name__} found",
            where=where,
            do='Write every row as {"column": "text", ...}',
        )
    return Row(value, where)


def _json(text: str, name: str) -> Iterator[Row]:
    try:
        loaded = json.loads(text)
    except json.JSONDecodeError as error:
        raise _broken_json(error, f"{name}, line {error.lineno}", len(text)) from error
    except RecursionError as error:
        raise InstructLabError("The JSON is nested too deeply", where=name) from error
    if not isinstance(loaded, list):
        raise InstructLabError(
            f"A list of rows was expected and {type(loaded).__name__} found",
            where=name,
            do="Write the file as [{...}, {...}], or one object a line with file_format=jsonl",
        )
    for number, value in enumerate(loaded, start=1):
        yield _object(value, f"{name}, row {number}")


def _json_lines(text: str, name: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: U+2028 may stand inside a string
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise _broken_json(error, where, len(line)) from error
        except RecursionError as error:
            raise InstructLabError("The JSON is nested too deeply", where=where) from error
        yield _object(value, where)


def _broken_json(error: json.JSONDecodeError, where: str, length: int) -> InstructLabError:
    cut = error.pos >= length - 1 or error.msg.startswith("Unterminated string")
    hint = "; it seems to be cut off" if cut else ""
    if error.msg == "Extra data":
        hint = "; one object a line is file_format=jsonl"
    return InstructLabError(
        f"This is not JSON ({error.msg} at character {error.colno}){hint}", where=where, do="Mend or re-create the file"
    )


def _csv(text: str, name: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        header = next(reader)
        twice = sorted({column for column in header if header.count(column) > 1})
        if twice:
            raise InstructLabError(f"The header names the column {twice[0]!r} twice", where=f"{name}, line 1")
        line = reader.line_num + 1
        for values in reader:
            where, line = f"{name}, line {line}", reader.line_num + 1
            if not values:
                continue
            if len(values) != len(header):
                raise InstructLabError(
                    f"The row has {len(values)} values and the header {len(header)} columns",
                    where=where,
                    do="Quote values that hold the delimiter, or set delimiter",
                )
            yield Row(dict(zip(header, values, strict=True)), where)
    except csv.Error as error:
        raise InstructLabError(
            f"This is not CSV ({error})", where=f"{name}, line {line}", do="Mend the file"
        ) from error


def _parquet(data: bytes, name: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)).iter_batches():
            for columns in batch.to_pylist():
                number += 1
                yield Row(columns, f"{name}, row {number}")
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InstructLabError(
            f"This is not a whole Parquet file ({reason})", where=name, do="Copy or re-create the file"
        ) from error
