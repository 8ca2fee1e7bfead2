"""The base class of formats, and access to columns by names that may reach into nested values."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.conversation import Conversation, Message, Supervision
from instruct_lab.data.sources.base import Row, suggest_column
from instruct_lab.errors import InstructLabError, Problem

Column = Annotated[str, Field(min_length=1)]
"""The name of a column, which may reach into objects and lists: see `Format`."""
ID_CHARACTERS = 16
STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>[^.\[\]]+)\]")
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
NUMBERS = (bool, int, type(None))


@component
class Format(Component, ABC):
    """Converts a row to a conversation, and names the columns that this needs.

    The name of a column may reach into objects and lists. `translation.en` is the value of `en` in the object in the
    column `translation`. If `answers` is a list of objects, `answers.text` is the list of their texts and
    `answers.text[0]` is the first text. `choices[label]` is the element whose index is in the column `label`. A column
    that literally has such a name takes precedence.
    """

    gives: ClassVar[frozenset[Supervision]] = frozenset({"answers"})
    """The kinds of supervision that the conversations contain; compared with the needs of the objective."""

    @abstractmethod
    def required(self) -> dict[str, list[str]]:
        """Return the columns that every row must have, by the field of this format that names them."""

    @abstractmethod
    def turns(self, row: Row) -> list[Message]:
        """Return the messages of a row, in order.

        Raises:
            InstructLabError: the row does not match this format.
        """

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """Return the acceptable final answers; empty if only the last message is acceptable."""
        return ()

    @abstractmethod
    def consumed_columns(self) -> set[str | None]:
        """Return the columns that messages and references contain completely; the metadata omits them."""

    def conversation(self, row: Row) -> Conversation:
        """Convert a row to a conversation; its `id` is a hash of the messages and references.

        Raises:
            InstructLabError: the row does not match this format.
        """
        return self.make_conversation(row, self.turns(row), self.reference_texts(row))

    def conversations_of(self, row: Row) -> Iterator[Conversation]:
        """Yield the conversations of a row: one, unless the format makes several from a row.

        Raises:
            InstructLabError: the row does not match this format.
        """
        yield self.conversation(row)

    def make_conversation(
        self,
        row: Row,
        messages: Iterable[Message],
        references: tuple[str, ...] = (),
        rejected: Iterable[Message] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Build a conversation; its metadata are the row's other columns and `metadata`, as JSON values.

        Raises:
            InstructLabError: a column is nested too deeply.
        """
        messages, rejected, consumed = tuple(messages), tuple(rejected), self.consumed_columns()
        try:
            others = {str(name): to_json_value(value) for name, value in row.columns.items() if name not in consumed}
        except RecursionError as error:
            raise row.error("A column is nested too deeply to be kept as metadata", do="Remove the column") from error
        return Conversation(
            messages,
            content_id(messages, references, rejected),
            references,
            others | dict(metadata or {}),
            rejected=rejected,
        )

    def check_columns(self, row: Row) -> None:
        """Check that the first row of a source has the columns that this format names.

        Raises:
            InstructLabError: a column is missing; the error lists the existing columns.
        """
        for problem in self.column_problems(list(row.columns)):
            raise InstructLabError(
                f"The format's {problem.key} names the column {problem.value!r}, which does not exist",
                where=row.where,
                do=suggest_column(str(problem.value), row.columns),
            )

    def column_problems(self, available: list[str]) -> Iterator[Problem]:
        """Report each required column that is not available, with the field that names it as the key.

        If a name reaches into a column, only the column is checked.
        """
        for field, columns in self.required().items():
            for column in columns:
                if column not in available and _parse_name(column, available) is None:
                    reason = f"there is no column {column!r} (columns: {', '.join(map(str, available)) or 'none'})"
                    yield Problem(key=field, value=column, reason=reason, suggestion=nearest(column, available))


def content_id(messages: tuple[Message, ...], references: tuple[str, ...], rejected: tuple[Message, ...] = ()) -> str:
    """Return a short hash of the texts, equal in every run and on every machine."""
    content: list[Any] = [[message.role, message.content, message.trained] for message in messages]
    hashed: list[Any] = [content, references]
    if rejected:
        hashed.append([[message.role, message.content] for message in rejected])
    encoded = json.dumps(hashed, ensure_ascii=False).encode()
    return hashlib.sha256(encoded).hexdigest()[:ID_CHARACTERS]


def text_of(row: Row, name: str) -> str:
    """Return the text to which the name of a column refers.

    Raises:
        InstructLabError: the name does not refer to a text.
    """
    if name in row.columns:
        return row.text(name)
    value, location = value_of(row, name), f"column {name!r}"
    if isinstance(value, list):
        raise row.error("Text was expected and a list found", location, f"Name one of its texts, such as {name}[0]")
    return row.check_text(value, location)


def optional_text(row: Row, name: str | None) -> str:
    """Return the text to which the name of a column refers; empty without a name or column, or if the value is null.

    Raises:
        InstructLabError: the value is not text.
    """
    if not name or (name not in row.columns and _parse_name(name, row.columns) is None):
        return ""
    return text_of(row, name) if value_of(row, name) is not None else ""


def has_column(row: Row, name: str | None) -> bool:
    """Whether the row has the column to which a name refers."""
    return name is not None and (name in row.columns or _parse_name(name, row.columns) is not None)


def value_of(row: Row, name: str) -> Any:
    """Return the value to which the name of a column refers: the column, or a value inside it.

    Raises:
        InstructLabError: there is no such value; the error names the step that fails.
    """
    if name in row.columns:
        return row.columns[name]
    parsed = _parse_name(name, row.columns)
    if parsed is None:
        raise row.error(f"The row has no column {name!r}", do=suggest_column(name, row.columns))
    column, steps = parsed
    value = row.columns[column]
    for key, index, location in steps:
        value = _key_of(row, value, key, location) if key is not None else _element_of(row, value, index, location)
    return value


Steps = tuple[tuple[str | None, str, str], ...]
"""The key or the index of each step, and the location where the step starts, for error messages."""


@functools.lru_cache(maxsize=4096)
def _interpretations(name: str) -> tuple[tuple[str, Steps], ...]:
    """Return all interpretations of a name as a column and steps into it; longer column names come first."""
    found = []
    for start in reversed([match.start() for match in re.finditer(r"[.\[]", name)]):
        steps, position = [], start
        while start and (match := STEP.match(name, position)):
            steps.append((match["key"], match["index"] or "", f"column {name[:position]!r}"))
            position = match.end()
        if steps and position == len(name):
            found.append((name[:start], tuple(steps)))
    return tuple(found)


def _parse_name(name: str, columns: Iterable[str] | Mapping[str, Any]) -> tuple[str, Steps] | None:
    return next((parsed for parsed in _interpretations(name) if parsed[0] in columns), None)


def _key_of(row: Row, value: Any, key: str, location: str) -> Any:
    """Return the value of a key in an object, or the list of these values for a list of objects."""
    if isinstance(value, list):
        return [_key_of(row, element, key, location) for element in value]
    if not isinstance(value, dict):
        raise row.error(
            f"An object with {key!r} was expected and {type(value).__name__} found", location, "Correct the row"
        )
    if key not in value:
        raise row.error(f"The object has no {key!r}", location, suggest_column(key, value).replace("columns", "keys"))
    return value[key]


def _element_of(row: Row, value: Any, index: str, location: str) -> Any:
    """Return an element of a list; the index is a number, or the name of the column that holds the number."""
    key = int(index) if re.fullmatch(r"-?\d{1,9}", index) else value_of(row, index)
    if isinstance(value, dict) and isinstance(key, str):
        return _key_of(row, value, key, location)
    if not isinstance(value, list) or not isinstance(key, int) or isinstance(key, bool):
        if isinstance(value, list):
            raise row.error(f"{key!r} is not an index of a list", location)
        raise row.error(f"A list was expected for the index {index!r} and {type(value).__name__} found", location)
    if not -len(value) <= key < len(value):
        raise row.error(f"The list has {len(value)} elements and none at [{index}]", location, "Remove the row")
    return value[key]


def to_json_value(value: Any) -> Any:
    """Convert a value to JSON: dates, bytes, numpy scalars and arrays become text, numbers or lists.

    Half a surrogate pair becomes U+FFFD; bytes become UTF-8 text or, if that fails, base64; NaN and infinity become
    text.
    """
    if type(value) in NUMBERS:
        return value
    if isinstance(value, str):
        if value.isascii():
            return str(value)
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, dict):
        return {to_json_value(str(key)): to_json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(inner) for inner in value]
    return _other_to_json_value(value)


def _other_to_json_value(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted((to_json_value(inner) for inner in value), key=str)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, int):  # a member of an enumeration
        return int(value)
    for conversion in ("tolist", "item"):  # methods of numpy arrays and scalars, and of similar libraries
        if callable(convert := getattr(value, conversion, None)) and not isinstance(value, type):
            converted = convert()
            return str(value) if type(converted) is type(value) else to_json_value(converted)
    return to_json_value(ADDRESS.sub("", str(value)))
