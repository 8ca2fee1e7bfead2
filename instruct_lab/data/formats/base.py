"""What a format is: how a row becomes a conversation, or several; and how column names reach into nested rows."""

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
"""A column's name, which may reach into objects and lists: see `Format`."""
ID_CHARACTERS = 16
STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>[^.\[\]]+)\]")
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
NUMBERS = (bool, int, type(None))


@component
class Format(Component, ABC):
    """How a row becomes a conversation, and which columns that needs.

    A column's name may reach into objects and lists: `translation.en` is the `en` of the object in the column
    `translation`, `answers.text` the list of the texts where `answers` is a list of objects, `answers.text[0]` the
    first of them, `choices[label]` the one whose number stands in the column `label`. A column whose own name is
    written so comes first.
    """

    gives: ClassVar[frozenset[Supervision]] = frozenset({"answers"})
    """What training can use of the conversations; compared with what the objective needs."""

    @abstractmethod
    def required(self) -> dict[str, list[str]]:
        """The columns that every row must have, by the field that names them."""

    @abstractmethod
    def turns(self, row: Row) -> list[Message]:
        """The row's messages in order.

        Raises:
            InstructLabError: the row does not have the shape that this format names.
        """

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """The acceptable final answers, where the row has others than its last message."""
        return ()

    @abstractmethod
    def consumed_columns(self) -> set[str | None]:
        """The columns that messages or references hold whole, which the metadata does not repeat."""

    def conversation(self, row: Row) -> Conversation:
        """The row as a conversation; its `id` is a hash of the messages and references.

        Raises:
            InstructLabError: the row does not have the shape that this format names.
        """
        return self.make_conversation(row, self.turns(row), self.reference_texts(row))

    def conversations_of(self, row: Row) -> Iterator[Conversation]:
        """The row's conversations: one, unless the format makes several of a row.

        Raises:
            InstructLabError: the row does not have the shape that this format names.
        """
        yield self.conversation(row)

    def make_conversation(
        self,
        row: Row,
        messages: Iterable[Message],
        references: tuple[str, ...] = (),
        rejected: Iterable[Message] = (),
        told: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """A conversation of these texts; its metadata are the row's other columns as JSON can hold them, and `told`.

        Raises:
            InstructLabError: a column is nested too deeply to be kept.
        """
        messages, rejected, left_out = tuple(messages), tuple(rejected), self.consumed_columns()
        try:
            metadata = {str(name): plain(value) for name, value in row.columns.items() if name not in left_out}
        except RecursionError as error:
            raise row.error("A column is nested too deeply to be kept as metadata", do="Remove the column") from error
        return Conversation(
            messages,
            content_id(messages, references, rejected),
            references,
            metadata | dict(told or {}),
            rejected=rejected,
        )

    def check_columns(self, row: Row) -> None:
        """Compare the columns that this format names with a source's first row.

        Raises:
            InstructLabError: one is not there; lists those that are.
        """
        for problem in self.column_problems(list(row.columns)):
            raise InstructLabError(
                f"The format's {problem.key} names the column {problem.value!r}, which is not there",
                where=row.where,
                do=suggest_column(str(problem.value), row.columns),
            )

    def column_problems(self, available: list[str]) -> Iterator[Problem]:
        """One problem for each required column that is not available, keyed by the field that names it.

        Of a name that reaches into a column, only the column is looked for.
        """
        for field, columns in self.required().items():
            for column in columns:
                if column not in available and _reading(column, available) is None:
                    reason = f"there is no column {column!r} (columns: {', '.join(map(str, available)) or 'none'})"
                    yield Problem(key=field, value=column, reason=reason, suggestion=nearest(column, available))


def content_id(messages: tuple[Message, ...], references: tuple[str, ...], rejected: tuple[Message, ...] = ()) -> str:
    """A short hash of what is said, the same in every run and on every machine."""
    content: list[Any] = [[message.role, message.content, message.trained] for message in messages]
    whole: list[Any] = [content, references]
    if rejected:
        whole.append([[message.role, message.content] for message in rejected])
    encoded = json.dumps(whole, ensure_ascii=False).encode()
    return hashlib.sha256(encoded).hexdigest()[:ID_CHARACTERS]


def text_of(row: Row, name: str) -> str:
    """The text that a column's name reaches.

    Raises:
        InstructLabError: there is none there.
    """
    if name in row.columns:
        return row.text(name)
    value, place = value_of(row, name), f"column {name!r}"
    if isinstance(value, list):
        raise row.error("Text was expected and a list found", place, f"Name one of its texts, such as {name}[0]")
    return row.check_text(value, place)


def optional_text(row: Row, name: str | None) -> str:
    """The text that a column's name reaches; empty where there is no name, no such column, or null in it.

    Raises:
        InstructLabError: something else than text is there.
    """
    if not name or (name not in row.columns and _reading(name, row.columns) is None):
        return ""
    return text_of(row, name) if value_of(row, name) is not None else ""


def has_column(row: Row, name: str | None) -> bool:
    """Whether the row has the column that a name begins with."""
    return name is not None and (name in row.columns or _reading(name, row.columns) is not None)


def value_of(row: Row, name: str) -> Any:
    """What a column's name reaches: the column, or what is inside it.

    Raises:
        InstructLabError: the name reaches nothing; says where it ends.
    """
    if name in row.columns:
        return row.columns[name]
    reading = _reading(name, row.columns)
    if reading is None:
        raise row.error(f"The row has no column {name!r}", do=suggest_column(name, row.columns))
    column, steps = reading
    value = row.columns[column]
    for key, index, place in steps:
        value = _inner(row, value, key, place) if key is not None else _element(row, value, index, place)
    return value


Steps = tuple[tuple[str | None, str, str], ...]
"""Of each step: the key, or else the index, and where it starts from, for errors."""


@functools.lru_cache(maxsize=4096)
def _readings(name: str) -> tuple[tuple[str, Steps], ...]:
    """Every way to read a name as a column and the steps into it, the longest column first."""
    found = []
    for start in reversed([place.start() for place in re.finditer(r"[.\[]", name)]):
        steps, place = [], start
        while start and (match := STEP.match(name, place)):
            steps.append((match["key"], match["index"] or "", f"column {name[:place]!r}"))
            place = match.end()
        if steps and place == len(name):
            found.append((name[:start], tuple(steps)))
    return tuple(found)


def _reading(name: str, columns: Iterable[str] | Mapping[str, Any]) -> tuple[str, Steps] | None:
    return next((reading for reading in _readings(name) if reading[0] in columns), None)


def _inner(row: Row, value: Any, key: str, place: str) -> Any:
    if isinstance(value, list):
        return [_inner(row, element, key, place) for element in value]
    if not isinstance(value, dict):
        raise row.error(f"An object with {key!r} was expected and {type(value).__name__} found", place, "Mend the row")
    if key not in value:
        raise row.error(f"The object has no {key!r}", place, suggest_column(key, value).replace("columns", "keys"))
    return value[key]


def _element(row: Row, value: Any, index: str, place: str) -> Any:
    key = int(index) if re.fullmatch(r"-?\d{1,9}", index) else value_of(row, index)
    if isinstance(value, dict) and isinstance(key, str):
        return _inner(row, value, key, place)
    if not isinstance(value, list) or not isinstance(key, int) or isinstance(key, bool):
        told = f"A list with a number {index!r} was expected and {type(value).__name__} found"
        raise row.error(told if not isinstance(value, list) else f"{key!r} numbers nothing in a list", place)
    if not -len(value) <= key < len(value):
        raise row.error(f"The list has {len(value)} elements and none that [{index}] names", place, "Remove the row")
    return value[key]


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dates, bytes, numpy's numbers and arrays, and whatever else, become text or numbers.

    Half a surrogate pair becomes U+FFFD, bytes become UTF-8 text or else base64, infinite and undefined numbers text.
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
        return {plain(str(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return _plain_of_other_types(value)


def _plain_of_other_types(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted((plain(inner) for inner in value), key=str)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, int):  # an enumeration's member
        return int(value)
    for conversion in ("tolist", "item"):  # of numpy's arrays and scalars, and those of libraries that follow it
        if callable(convert := getattr(value, conversion, None)) and not isinstance(value, type):
            converted = convert()
            return str(value) if type(converted) is type(value) else plain(converted)
    return plain(ADDRESS.sub("", str(value)))
