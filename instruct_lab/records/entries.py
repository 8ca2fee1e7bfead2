"""Parse the entries of a record's JSON files as fields of dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


def known_entries(kind: type, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that are fields of a dataclass and not null."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in entries.items() if name in names and value is not None}
