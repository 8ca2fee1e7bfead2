"""The base class of formats, which convert rows to conversations and report columns whose content they would ignore."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import functools
import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.conversation import Conversation, Message, Supervision
from instruct_lab.data.formats.columns import optional_text, parse_name, possible_columns
from instruct_lab.data.formats.unused import CONTENT_COLUMNS, LABEL, how_to_read, is_empty, is_truth_value
from instruct_lab.data.sources.base import Row, suggest_column
from instruct_lab.errors import InstructLabError, Problem

ID_CHARACTERS = 16
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
NUMBERS = (bool, int, type(None))


@component
class Format(Component, ABC):
    """Converts a row to conversations, and declares the columns that it reads.

    The name of a column may refer to a value inside an object or a list. If the column `translation` holds objects,
    `translation.en` is the value of their key `en`. If `answers` is a list of objects, `answers.text` is the list of
    their values of `text`, and `answers.text[0]` is the first of these. `choices[label]` is the element of `choices`
    whose index is in the column `label`. A column that is literally called, for example, `translation.en` takes
    precedence.
    """

    gives: ClassVar[frozenset[Supervision]] = frozenset({"answers"})
    """The kinds of supervision that the conversations contain, to be compared with what the objective needs."""
    content_columns: ClassVar[dict[str, str]] = CONTENT_COLUMNS
    """Names of columns that usually hold values which training needs, each with the format's field that can read it.

    A value in such a column is an error if the format does not read the column.
    """

    ignore_columns: list[str] = Field(default_factory=list)  # columns to ignore

    @abstractmethod
    def required(self) -> dict[str, list[str]]:
        """Return the columns that every row must have, keyed by the field of the format that names them."""

    @abstractmethod
    def turns(self, row: Row) -> list[Message]:
        """Return the messages of a row, in order.

        Raises:
            InstructLabError: the row does not match this format.
        """

    def reference_texts(self, row: Row) -> tuple[str, ...]:
        """Return the row's acceptable final answers; empty if only the last message is acceptable."""
        return ()

    @abstractmethod
    def consumed_columns(self) -> set[str | None]:
        """Return the columns that a conversation does not keep as metadata.

        Their whole values are in its messages or reference answers. All other columns of the row are kept. The set may
        contain `None`, which stands for a field of the format that names no column; it is ignored.
        """

    def used_columns(self) -> set[str | None]:
        """Return every column that the format reads, even if only a part of its value goes into the messages.

        The set may contain `None`, which stands for a field of the format that names no column; it is ignored.
        """
        return {*self.consumed_columns(), *(name for names in self.required().values() for name in names)}

    def named(self, column: str | None) -> str | None:
        """Return `column`, the name of an optional column; `None` if it is not set or `ignore_columns` lists it."""
        return None if column in self.ignore_columns else column

    def system_text(self, row: Row) -> str:
        """Return the row's text in the column that the field `system` names; empty if there is no column or no text."""
        return optional_text(row, self.named(getattr(self, "system", None)))

    def required_if_named(self, *fields: str) -> dict[str, list[str]]:
        """Return the columns that the given optional fields name, keyed by field; every row must have these columns.

        A field is left out if it still has its default value, because rows may lack the column of that name.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(self) if field.name in fields}
        columns = {field: getattr(self, field) for field in fields}
        return {field: [name] for field, name in columns.items() if name and name != defaults[field]}

    def unused_columns(self, row: Row) -> list[str]:
        """Return the row's columns that have a value but are neither read by the format nor listed in `ignore_columns`.

        Setting a field of the format to null, such as `history: null`, also ignores the column that the field
        names by default.
        """
        known = self._known_columns
        return [name for name, value in row.columns.items() if name not in known and not is_empty(value)]

    @functools.cached_property
    def _known_columns(self) -> frozenset[str]:
        used = [possible_columns(name) for name in self.used_columns() if name]
        fields = [field for field in dataclasses.fields(self) if getattr(self, field.name) is None]
        set_to_null = {field.default for field in fields if isinstance(field.default, str)}
        return frozenset().union(self.ignore_columns, set_to_null, *used)

    def how_to_read(self, column: str, value: Any) -> str | None:
        """Return advice on how to read or ignore a column whose name suggests that training needs its values.

        Such a column holds, for example, system messages, tools, images, labels, or flags that say which messages are
        trained on.

        The result is `None` for a column of any other name, and for a label column, such as `label`, whose value is not
        true or false.
        """
        field = self.content_columns.get(str(column).casefold())
        if field is None or (field == LABEL and not is_truth_value(value)):
            return None
        fields = {known.name for known in dataclasses.fields(self)}
        return how_to_read(column, field if field in fields else None)

    def conversation(self, row: Row) -> Conversation:
        """Convert a row to a conversation; its `id` is a hash that `content_id` computes.

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
        desirable: bool | None = None,
    ) -> Conversation:
        """Build a conversation and compute its id; columns that `consumed_columns` does not name become its metadata.

        Args:
            row: the row from which the messages come.
            messages: the messages; in a preference pair, they end with the chosen answer.
            references: the acceptable final answers.
            rejected: the messages of the rejected answer.
            metadata: additional metadata by name; all metadata are converted to JSON values.
            desirable: whether the final answer is a good one; `None` if the row does not say so.

        Raises:
            InstructLabError: a column is nested too deeply, or the format does not read a column whose name suggests
                that training needs its values.
        """
        for name in self.unused_columns(row):
            if (do := self.how_to_read(name, row.columns[name])) is not None:
                raise row.error(f"The column {name!r} has a value that would not be used", f"column {name!r}", do)
        messages, rejected, consumed = tuple(messages), tuple(rejected), self.consumed_columns()
        try:
            others = {str(name): to_json_value(value) for name, value in row.columns.items() if name not in consumed}
        except RecursionError as error:
            raise row.error("A column is nested too deeply to be kept as metadata", do="Remove the column") from error
        return Conversation(
            messages,
            content_id(messages, references, rejected, desirable),
            references,
            others | dict(metadata or {}),
            rejected=rejected,
            origin=row.where,
            desirable=desirable,
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

    def content_problems(self, rows: Iterable[Row]) -> Iterator[Problem]:
        """Yield a problem for each column that this format does not read although its values seem to be needed.

        They seem to be needed if the column's name suggests that it holds, for example, system messages or labels.
        """
        seen = {name: row.columns[name] for row in rows for name in self.unused_columns(row)}
        for name, value in seen.items():
            if (do := self.how_to_read(name, value)) is not None:
                reason = f"the column {name!r} has values that would not be used. {do}"
                yield Problem(key="ignore_columns", value=self.ignore_columns, reason=reason)

    def column_problems(self, available: list[str]) -> Iterator[Problem]:
        """Yield a problem for each required column that `available` lacks.

        The problem's key is the format's field that names the column.

        If a name refers to a value inside a column, only the presence of the column is checked.
        """
        for field, columns in self.required().items():
            for column in columns:
                if column not in available and parse_name(column, available) is None:
                    reason = f"there is no column {column!r} (columns: {', '.join(map(str, available)) or 'none'})"
                    yield Problem(key=field, value=column, reason=reason, suggestion=nearest(column, available))


def content_id(
    messages: tuple[Message, ...],
    references: tuple[str, ...],
    rejected: tuple[Message, ...] = (),
    desirable: bool | None = None,
) -> str:
    """Return a short hash of a conversation's messages (rejected ones included), references and label.

    It is the same in every run and on every machine.
    """
    content: list[Any] = [[message.role, message.content, message.trained] for message in messages]
    hashed: list[Any] = [content, references]
    if rejected:
        hashed.append([[message.role, message.content] for message in rejected])
    if desirable is not None:
        hashed.append(desirable)
    encoded = json.dumps(hashed, ensure_ascii=False).encode()
    return hashlib.sha256(encoded).hexdigest()[:ID_CHARACTERS]


def to_json_value(value: Any) -> Any:
    """Convert a value to a JSON value: dates, bytes, numpy scalars and arrays become text, numbers or lists.

    An unpaired surrogate becomes U+FFFD; bytes become UTF-8 text or, if that fails, base64; NaN and infinity become
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
