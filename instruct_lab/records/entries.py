"""Check the JSON objects in a record's files, so that dataclasses can be created from them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instruct_lab.errors import one_line, wrap_errors


def wrap_form_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    """Convert errors that parsing a file raises in the `with` block to an `InstructLabError` that names the file."""
    kinds = (AttributeError, KeyError, TypeError, ValueError)
    what = "This file of a run record has a form that this version cannot read"
    return wrap_errors(*kinds, what=what, where=str(path))


def known_entries(kind: type, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a JSON object that are not null and whose names are fields of a dataclass.

    Args:
        kind: the dataclass.
        entries: the JSON object.

    Raises:
        TypeError: `entries` is not a JSON object, or a value does not have the type of its field.
    """
    if not isinstance(entries, Mapping):
        raise TypeError(f"an object is expected, and this is {one_line(repr(entries), 80)}")
    hints = _field_types(kind)
    known = {name: value for name, value in entries.items() if name in hints and value is not None}
    for name, value in known.items():
        if not has_type(value, hints[name]):
            raise TypeError(f"{name} has a value of another type than expected: {one_line(repr(value), 80)}")
    return known


@functools.cache
def _field_types(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, localns={"MetricValue": Mapping})  # the metrics are imported only when needed
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def has_type(value: Any, hint: Any) -> bool:
    """Whether a value from a JSON file matches a type annotation.

    For an annotation that is a dataclass, any JSON object matches; its contents are not checked.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is float:
        return isinstance(value, int | float)
    if dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, one) for one in arguments)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(has_type(inner, arguments[1]) for inner in value.values())
    if origin in (list, tuple):
        return isinstance(value, list | tuple) and all(has_type(inner, arguments[0]) for inner in value)
    return isinstance(value, origin or hint)


def parse_number(value: Any) -> float:
    """Return a number from a JSON file; `null`, which stands for a number that is not finite, becomes NaN.

    Raises:
        TypeError: the value is not a number.
    """
    if not isinstance(value, int | float | None):
        raise TypeError(f"a number is expected, not {type(value).__name__}")
    return math.nan if value is None else value
