"""Decoding of the rows of JSON lists and JSON lines, one by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.errors import InstructLabError

CHUNK_CHARACTERS = 1 << 20
BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
"""The first bytes of text files that are not in UTF-8, each with the name of the file's encoding."""


class _NotTaken(ValueError):
    """Raised for valid JSON that is refused as data; the message is the reason."""


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _NotTaken(f"An object has the key {twice!r} twice, so its value is ambiguous")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_unique_object)


def _decode_text(text: str, position: int = 0) -> tuple[Any, int]:
    """Decode the JSON value at a position in a text; return the value and the position after it.

    Raises:
        json.JSONDecodeError: there is no JSON at the position.
        _NotTaken: an object has a key twice, the value is nested too deeply, or a number has too many digits.
    """
    try:
        return DECODER.raw_decode(text, position)
    except (json.JSONDecodeError, _NotTaken):
        raise
    except RecursionError as error:
        raise _NotTaken("The JSON is nested too deeply") from error
    except ValueError as error:
        raise _NotTaken(f"A whole number has more than {sys.get_int_max_str_digits():,} digits") from error


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


def _not_taken(error: _NotTaken, where: str) -> InstructLabError:
    return InstructLabError(str(error), where=where, do="Correct the row")


def read_json_list(text: IO[str], name: str, keys: Sequence[str] = ()) -> Iterator[Row | BrokenRow]:
    """Decode the elements of a JSON list one by one; memory holds little more than the longest element.

    Args:
        text: the content.
        name: name of the file, for errors.
        keys: the keys of nested objects that lead to the list.

    Raises:
        InstructLabError: the content is not valid JSON, the keys do not lead to a list, or an object has a key twice.
    """
    buffer = _Buffer(text)
    if not buffer.next_character():
        return
    yield from _rows_below(buffer, name, list(keys))
    if buffer.next_character():
        raise _broken_json(buffer.error("Extra data"), buffer, name)


def _rows_below(buffer: _Buffer, name: str, keys: list[str]) -> Iterator[Row | BrokenRow]:
    """Yield the rows of a JSON list, which may be inside nested objects.

    Args:
        buffer: the text; its current position is the beginning of the list or of an object around it.
        name: name of the file, for errors.
        keys: the keys that lead from the current position through nested objects to the list; empty if the list is at
            the current position.
    """
    opening = buffer.next_character()
    if not keys and opening != "[":
        raise _not_a_list(buffer, name)
    if keys and opening != "{":
        found = "a list" if opening == "[" else "another value"
        what = f"An object with the key {keys[0]!r} was expected and {found} found"
        raise InstructLabError(what, where=name, do="Correct the source's records, or leave it out for a list of rows")
    found_keys: dict[str, None] = {}
    number = 0
    buffer.position += 1
    while (character := buffer.next_character()) != ("}" if keys else "]"):
        if number:
            if character != ",":
                raise _broken_json(buffer.error("Expecting ',' delimiter"), buffer, name)
            buffer.position += 1
            buffer.next_character()
        number += 1
        if not keys:
            where = f"{name}, row {number}"
            value, size = _decode(buffer, name, where)
            yield _row(value, where, size)
            continue
        key, _ = _decode(buffer, name, name)
        if buffer.next_character() != ":" or not isinstance(key, str):
            raise _broken_json(buffer.error("Expecting ':' delimiter"), buffer, name)
        buffer.position += 1
        buffer.next_character()
        if key in found_keys:
            raise _not_taken(_NotTaken(f"An object has the key {key!r} twice, so its value is ambiguous"), name)
        if key == keys[0]:
            yield from _rows_below(buffer, name, keys[1:])
        else:
            _decode(buffer, name, name)
        found_keys[key] = None
    buffer.position += 1
    if keys and keys[0] not in found_keys:
        raise InstructLabError(
            f"The object has no key {keys[0]!r}",
            where=name,
            do=f"Set the source's records to one of: {', '.join(found_keys)}",
        )


def _decode(buffer: _Buffer, name: str, where: str) -> tuple[Any, int]:
    try:
        return buffer.value()
    except _NotTaken as error:
        raise _not_taken(error, where) from error
    except json.JSONDecodeError as error:
        raise _broken_json(error, buffer, name) from error


class _Buffer:
    """The part of a text that is being decoded, read in chunks."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._buffer, self._has_ended = "", False
        self.position = 0
        self.lines_before = 0  # number of line ends before the buffer

    def _read_more(self, characters: int = CHUNK_CHARACTERS) -> bool:
        chunk = "" if self._has_ended else self._text.read(characters)
        self._has_ended = not chunk
        self.lines_before += self._buffer.count("\n", 0, self.position)
        self._buffer, self.position = self._buffer[self.position :] + chunk, 0
        return bool(chunk)

    def next_character(self) -> str:
        """Skip white space and return the next character, or an empty text at the end."""
        while True:
            while self.position < len(self._buffer):
                if self._buffer[self.position] not in " \t\n\r":
                    return self._buffer[self.position]
                self.position += 1
            if not self._read_more():
                return ""

    def value(self) -> tuple[Any, int]:
        """Decode the value at the current position; return the value and its number of characters."""
        while True:
            try:
                value, end = _decode_text(self._buffer, self.position)
            except json.JSONDecodeError:
                if not self._read_more(max(CHUNK_CHARACTERS, len(self._buffer))):
                    raise
                continue
            if end == len(self._buffer) and self._read_more():  # a number may continue
                continue
            size, self.position = end - self.position, end
            return value, size

    def error(self, what: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(what, self._buffer, self.position)


def _not_a_list(buffer: _Buffer, name: str) -> InstructLabError:
    try:
        found, _ = buffer.value()
        if buffer.next_character() not in ("", ",", "}"):  # a comma or } follows a value inside an object
            return _broken_json(buffer.error("Extra data"), buffer, name)
    except json.JSONDecodeError as error:
        return _broken_json(error, buffer, name)
    except _NotTaken as error:
        return _not_taken(error, name)
    return InstructLabError(
        f"A list of rows was expected and {type(found).__name__} found",
        where=name,
        do=_suggest_records(found) + "Write the file as [{...}, {...}], or one object a line with file_format=jsonl",
    )


def _suggest_records(found: Any) -> str:
    if not isinstance(found, dict):
        return ""
    if lists := list(_row_lists(found)):
        others = f" (other lists: {', '.join(lists[1:])})" if lists[1:] else ""
        return f"Set the source's records={lists[0]} if the rows are there{others}. "
    values = list(found.values())
    if values and all(isinstance(value, dict) for value in values):
        return "Its values look like rows. "
    return "It looks like one list for each column. " if values and all(map(_is_column, values)) else ""


def _is_column(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _row_lists(found: dict[str, Any], depth: int = 4) -> Iterator[str]:
    """Find the lists of objects inside nested objects, outermost lists first.

    For each list, yield the keys that lead to it, joined by dots.
    """
    for key, value in found.items():
        if _is_column(value) and isinstance(value[0], dict) and "." not in key:
            yield key
    for key, value in found.items():
        if isinstance(value, dict) and depth and "." not in key:
            yield from (f"{key}.{inner}" for inner in _row_lists(value, depth - 1))


def _broken_json(error: json.JSONDecodeError, buffer: _Buffer, name: str) -> InstructLabError:
    where = f"{name}, line {buffer.lines_before + error.lineno}"
    return _not_json(error, where, len(error.doc))


def read_json_lines(lines: IO[bytes], name: str) -> Iterator[Row | BrokenRow]:
    """Decode the objects of a file of JSON lines; an invalid line is a `BrokenRow`.

    Raises:
        InstructLabError: the file is UTF-16.
    """
    for number, encoded in enumerate(lines, start=1):  # only \n ends a line: strings may contain U+2028
        if number == 1:
            if encoding := BYTE_ORDER_MARKS.get(encoded[:2]):
                raise InstructLabError(
                    f"The file is {encoding} and not UTF-8 text", where=name, do="Convert it to UTF-8"
                )
            encoded = encoded.removeprefix(b"\xef\xbb\xbf")
        if not encoded.strip():
            continue
        where = f"{name}, line {number}"
        try:
            line = encoded.decode("utf-8").strip("\r\n \t")
            value, end = _decode_text(line)
            if end != len(line):
                raise json.JSONDecodeError("Extra data", line, end)
            yield _row(value, where, len(encoded))
        except UnicodeDecodeError as error:
            reason = f"The line is not UTF-8 text ({error.reason})"
            yield BrokenRow(InstructLabError(reason, where=where, do="Convert it to UTF-8, for example with iconv"))
        except _NotTaken as error:
            yield BrokenRow(_not_taken(error, where))
        except json.JSONDecodeError as error:
            yield BrokenRow(_not_json_line(error, where))


def _not_json_line(error: json.JSONDecodeError, where: str) -> InstructLabError:
    """Return the error for a line that is not exactly one JSON value."""
    line = error.doc
    if error.msg == "Extra data":
        what = f"More follows after the JSON of this line (at character {error.colno}: {line[error.pos :][:20]!r})"
        return InstructLabError(what, where=where, do="Write one object a line, with nothing between the lines")
    if line.strip() in ("[", "]", "{", "}", "],", "},"):
        what = f"This line is only {line.strip()!r}, so the JSON goes over several lines"
        return InstructLabError(what, where=where, do="Set file_format=json for one list, or write one object a line")
    return _not_json(error, where, len(line))


def _not_json(error: json.JSONDecodeError, where: str, length: int) -> InstructLabError:
    cut = error.pos >= length - 1 or error.msg.startswith("Unterminated string")
    hint = "; it seems to be cut off" if cut else ""
    if error.msg == "Extra data":
        hint = "; one object a line is file_format=jsonl"
    return InstructLabError(
        f"This is not JSON ({error.msg} at character {error.colno}){hint}",
        where=where,
        do="Correct or re-create the file",
    )
