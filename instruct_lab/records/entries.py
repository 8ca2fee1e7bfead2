"""Parse entries of a record's JSON files for the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

JSON_TYPES: dict[str, Any] = {
    "str": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "dict": dict,
    "list": list,
    "Status": str,
}
"""The types of JSON values, keyed by the first word of a field's annotation; fields of other types are not checked."""


def known_entries(kind: type, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that a dataclass has a field for and that are not null.

    Raises:
        TypeError: an entry is not of its field's type.
    """
    types = {field.name: re.match(r"\w*", str(field.type)) for field in dataclasses.fields(kind)}
    known = {name: value for name, value in entries.items() if name in types and value is not None}
    for name, value in known.items():
        word = types[name]
        expected = JSON_TYPES.get(word[0]) if word else None
        if expected is not None and not isinstance(value, expected):
            raise TypeError(f"{name} is a {type(value).__name__}, and a {word[0] if word else ''} is expected")
    return known
