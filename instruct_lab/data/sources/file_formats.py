"""The rows of one file, read a little at a time, with the line or row of everything that is wrong in it.

What is wrong with one row of JSON lines or CSV is a `BrokenRow`, and reading goes on; what leaves the rest of the file
in doubt (a JSON list that breaks off, a Parquet file without its end) is an error.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.errors import InstructLabError

FIRST_LOOK_BYTES = 1 << 20
CHUNK_CHARACTERS = 1 << 20
WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""First bytes of files that are text, and not in UTF-8."""


def rows(file: Path, file_format: str, delimiter: str = ",") -> Iterator[Row | BrokenRow]:
    """The rows of one file, in order.

    Args:
        file: the file.
        file_format: json, jsonl, csv or parquet.
        delimiter: of CSV.

    Raises:
        InstructLabError: the file cannot be read, or not to its end; names the line or the row.
    """
    with read_errors(file):
        if file_format == "parquet":
            yield from _parquet(file)
        elif file_format == "json":
            with file.open(encoding="utf-8-sig") as text:
                yield from _json(text, str(file))
        elif file_format == "jsonl":
            with file.open("rb") as lines:
                yield from _json_lines(lines, str(file))
        else:
            with file.open(encoding="utf-8-sig", newline="") as text:
                yield from _csv(text, str(file), delimiter)


@contextlib.contextmanager
def read_errors(file: Path) -> Iterator[None]:
    """Tell an error of the disk, and another encoding than UTF-8, as what the user can mend."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InstructLabError(
            f"The file is not UTF-8 text ({error.reason})",
            where=f"{file}, line {_first_undecodable_line(file)}",
            do="Convert it to UTF-8, for example with iconv",
        ) from error
    except OSError as error:
        raise InstructLabError(
            f"The file cannot be read ({error.strerror or error})",
            where=str(file),
            do="Check the path and its permissions",
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


class _DuplicateKey(ValueError):
    pass


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_object_of)


def _row(value: Any, where: str, size: int) -> Row | BrokenRow:
    if isinstance(value, dict):
        return Row(value, where, size)
    return BrokenRow(
        InstructLabError(
            f"An object of named columns was expected and {type(value).__name__} found",
            where=where,
            do='Write every row as {"column": "text", ...}',
        )
    )


def _duplicate_key(error: _DuplicateKey, where: str) -> InstructLabError:
    return InstructLabError(
        f"An object has the key {str(error)!r} twice, so which of the two is meant is a guess",
        where=where,
        do="Mend the row",
    )


def _nested(where: str) -> InstructLabError:
    return InstructLabError("The JSON is nested too deeply", where=where)


def _json(text: IO[str], name: str) -> Iterator[Row | BrokenRow]:
    """The elements of a list, decoded one by one from a buffer that grows to the longest of them."""
    buffer = _Buffer(text)
    opening = buffer.next_character()
    if not opening:
        return
    if opening != "[":
        raise _no_list(buffer, name)
    buffer.place += 1
    number = 0
    while (character := buffer.next_character()) != "]":
        if number:
            if character != ",":
                raise _broken_json(buffer.error("Expecting ',' delimiter"), buffer, name)
            buffer.place += 1
            buffer.next_character()
        number += 1
        where = f"{name}, row {number}"
        try:
            value, size = buffer.value()
            yield _row(value, where, size)
        except _DuplicateKey as error:
            raise _duplicate_key(error, where) from error
        except json.JSONDecodeError as error:
            raise _broken_json(error, buffer, name) from error
        except RecursionError as error:
            raise _nested(where) from error
    buffer.place += 1
    if buffer.next_character():
        raise _broken_json(buffer.error("Extra data"), buffer, name)


class _Buffer:
    """The part of a text that is being decoded."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._buffer, self._ended = "", False
        self.place = 0
        self.lines_before = 0  # line ends before the buffer

    def _more(self, characters: int = CHUNK_CHARACTERS) -> bool:
        chunk = "" if self._ended else self._text.read(characters)
        self._ended = not chunk
        self.lines_before += self._buffer.count("\n", 0, self.place)
        self._buffer, self.place = self._buffer[self.place :] + chunk, 0
        return bool(chunk)

    def next_character(self) -> str:
        """The next one that is not white space, which is passed over; empty at the end."""
        while True:
            while self.place < len(self._buffer):
                if self._buffer[self.place] not in " \t\n\r":
                    return self._buffer[self.place]
                self.place += 1
            if not self._more():
                return ""

    def value(self) -> tuple[Any, int]:
        """The value that stands here, and its number of characters."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._buffer, self.place)
            except json.JSONDecodeError:
                if not self._more(max(CHUNK_CHARACTERS, len(self._buffer))):
                    raise
                continue
            if end == len(self._buffer) and self._more():  # a number may go on
                continue
            size, self.place = end - self.place, end
            return value, size

    def error(self, what: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(what, self._buffer, self.place)


def _no_list(buffer: _Buffer, name: str) -> InstructLabError:
    try:
        found, _ = buffer.value()
        if buffer.next_character():
            return _broken_json(buffer.error("Extra data"), buffer, name)
    except (json.JSONDecodeError, _DuplicateKey) as error:
        broken = error if isinstance(error, json.JSONDecodeError) else buffer.error("an object has a key twice")
        return _broken_json(broken, buffer, name)
    except RecursionError:
        return _nested(name)
    return InstructLabError(
        f"A list of rows was expected and {type(found).__name__} found",
        where=name,
        do="Write the file as [{...}, {...}], or one object a line with file_format=jsonl",
    )


def _broken_json(error: json.JSONDecodeError, buffer: _Buffer, name: str) -> InstructLabError:
    where = f"{name}, line {buffer.lines_before + error.lineno}"
    return _not_json(error, where, len(error.doc))


def _json_lines(lines: IO[bytes], name: str) -> Iterator[Row | BrokenRow]:
    for number, encoded in enumerate(lines, start=1):  # lines end at \n alone: U+2028 may stand inside a string
        if number == 1:
            if wide := WIDE.get(encoded[:2]):
                raise InstructLabError(f"The file is {wide} and not UTF-8 text", where=name, do="Convert it to UTF-8")
            encoded = encoded.removeprefix(b"\xef\xbb\xbf")
        if not encoded.strip():
            continue
        where = f"{name}, line {number}"
        try:
            line = encoded.decode("utf-8").strip("\r\n \t")
            value, end = DECODER.raw_decode(line)
            if end != len(line):
                raise json.JSONDecodeError("Extra data", line, end)
            yield _row(value, where, len(encoded))
        except UnicodeDecodeError as error:
            reason = f"The line is not UTF-8 text ({error.reason})"
            yield BrokenRow(InstructLabError(reason, where=where, do="Convert it to UTF-8, for example with iconv"))
        except _DuplicateKey as error:
            yield BrokenRow(_duplicate_key(error, where))
        except json.JSONDecodeError as error:
            yield BrokenRow(_not_json(error, where, len(line)))
        except RecursionError:
            yield BrokenRow(_nested(where))


def _not_json(error: json.JSONDecodeError, where: str, length: int) -> InstructLabError:
    cut = error.pos >= length - 1 or error.msg.startswith("Unterminated string")
    hint = "; it seems to be cut off" if cut else ""
    if error.msg == "Extra data":
        hint = "; one object a line is file_format=jsonl"
    return InstructLabError(
        f"This is not JSON ({error.msg} at character {error.colno}){hint}", where=where, do="Mend or re-create the file"
    )


def _csv(text: IO[str], name: str, delimiter: str) -> Iterator[Row | BrokenRow]:
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
            told_ = f"The row has {len(values)} values and the header {len(header)} columns"
            yield BrokenRow(
                InstructLabError(told_, where=where, do="Quote values that hold the delimiter, or set delimiter")
            )
    except csv.Error as error:
        raise InstructLabError(
            f"This is not CSV ({error})", where=f"{name}, line {line}", do="Mend the file"
        ) from error


def _parquet(file: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        with pyarrow.parquet.ParquetFile(file, memory_map=True) as opened:
            for batch in opened.iter_batches(batch_size=1000):
                size = batch.nbytes // max(1, batch.num_rows)
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(columns, f"{file}, row {number}", size)
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise InstructLabError(
            f"This is not a whole Parquet file ({reason})", where=str(file), do="Copy or re-create the file"
        ) from error
