"""Column names, which may refer to values inside nested objects and lists, and the lookup of these values."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.data.sources.base import Row, suggest_column

Column = Annotated[str, Field(min_length=1)]
"""The name of a column; a name such as `answers.text[0]` refers to a value inside the column's objects and lists."""
STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>[^.\[\]]+)\]")


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
    """Return the text to which a column name refers; empty if the name is empty, or the column is missing or null.

    Raises:
        InstructLabError: the value is not text.
    """
    if not name or (name not in row.columns and parse_name(name, row.columns) is None):
        return ""
    return text_of(row, name) if value_of(row, name) is not None else ""


def has_column(row: Row, name: str | None) -> bool:
    """Whether the row has the column to which a name refers."""
    return name is not None and (name in row.columns or parse_name(name, row.columns) is not None)


def value_of(row: Row, name: str) -> Any:
    """Return the value to which the name of a column refers: the column, or a value inside it.

    Raises:
        InstructLabError: there is no such value; the error names the column, key or index that was not found.
    """
    if name in row.columns:
        return row.columns[name]
    parsed = parse_name(name, row.columns)
    if parsed is None:
        raise row.error(f"The row has no column {name!r}", do=suggest_column(name, row.columns))
    column, steps = parsed
    value = row.columns[column]
    for key, index, location in steps:
        value = _key_of(row, value, key, location) if key is not None else _element_of(row, value, index, location)
    return value


Steps = tuple[tuple[str | None, str, str], ...]
"""The steps from a column to a value inside it.

Each step is a key (`None` for a step by index), an index (empty for a step by key), and the location at which the step
starts, for error messages.
"""


@functools.lru_cache(maxsize=4096)
def _interpretations(name: str) -> tuple[tuple[str, Steps], ...]:
    """Return every way to split a name such as `a.b[0]` into a column and the keys and indices inside it.

    For `a.b[0]`, these are the column `a.b` with the index 0, and the column `a` with the key `b` and the index 0.
    Longer column names come first.
    """
    found = []
    for start in reversed([match.start() for match in re.finditer(r"[.\[]", name)]):
        steps, position = [], start
        while start and (match := STEP.match(name, position)):
            steps.append((match["key"], match["index"] or "", f"column {name[:position]!r}"))
            position = match.end()
        if steps and position == len(name):
            found.append((name[:start], tuple(steps)))
    return tuple(found)


def parse_name(name: str, columns: Iterable[str] | Mapping[str, Any]) -> tuple[str, Steps] | None:
    """Return which of the `columns` a name refers to, and the keys and indices inside it; `None` if no column fits."""
    return next((parsed for parsed in _interpretations(name) if parsed[0] in columns), None)


def possible_columns(name: str) -> set[str]:
    """Return every column whose values may be needed to find the value to which a name refers.

    For `choices[label]`, these are `choices`, `label` (which holds the index) and a column called `choices[label]`.
    """
    found = {name}
    for column, steps in _interpretations(name):
        found |= {column, *(index for _, index, _ in steps if index)}
    return found


def _key_of(row: Row, value: Any, key: str, location: str) -> Any:
    """Return the value that an object has under `key`; for a list of objects, return the list of their values."""
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
    """Return an element of a list; `index` is a number, or the name of the column that holds the number.

    If `value` is an object and the column holds a text, return the value that the object has under this text.
    """
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
