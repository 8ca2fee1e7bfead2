"""What a row holds that its format does not read: refused if it can change the training, else reported."""

from __future__ import annotations

from typing import Any

from instruct_lab.data.formats.turn_keys import FLAGS, REASONING_KEYS, UNCLEAR_FLAGS, WEIGHTS

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message", "system_instruction")
TOOL_COLUMNS = ("tools", "functions")
MEDIA_COLUMNS = ("image", "images", "audio", "audios", "video", "videos")
CONTENT_COLUMNS: dict[str, str] = {
    **dict.fromkeys(SYSTEM_COLUMNS, "system"),
    **dict.fromkeys(TOOL_COLUMNS, "tools"),
    **dict.fromkeys((*MEDIA_COLUMNS, *REASONING_KEYS, *FLAGS, *WEIGHTS, *UNCLEAR_FLAGS), ""),
    "history": "history",
}
"""Columns that by convention hold content or training flags, and the format's field that reads them, if one may."""


READERS = {"label": "Choose data=local_unpaired_preference if it says which answers are good"}
"""Advice on the columns that one format reads."""


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: null, blank text, or a list or object that holds only such values."""
    if isinstance(value, dict):
        return all(map(_is_blank, value.values()))
    return all(map(_is_blank, value)) if isinstance(value, list) else _is_blank(value)


def _is_blank(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, dict | list) and not value)


def how_to_read(column: str, field: str | None) -> str:
    """Return what to set for a column that a format does not read.

    Args:
        column: the column.
        field: the format's field that would read it; None if it has none.
    """
    reader = READERS.get(str(column).casefold(), "Choose a format that reads it")
    read = f"Set data.format.{field}={column} to read it" if field else reader
    return f"{read}, or leave it out with data.format.ignore_columns=[{column}]"
