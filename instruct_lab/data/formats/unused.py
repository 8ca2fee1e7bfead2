"""Checks of columns that a format does not read; an unread column that could change the training is an error."""

from __future__ import annotations

from typing import Any

from instruct_lab.data.formats.turn_keys import FLAGS, REASONING_KEYS, UNCLEAR_FLAGS, WEIGHTS

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message", "system_instruction")
TOOL_COLUMNS = ("tools", "functions")
MEDIA_COLUMNS = ("image", "images", "audio", "audios", "video", "videos")
LABEL = "label"
LABEL_COLUMNS = (LABEL, "kto_tag", "desirable")
"""Columns that, if they hold true or false, mark an answer as good or bad; the field `label` reads them."""
CONTENT_COLUMNS: dict[str, str] = {
    **dict.fromkeys(SYSTEM_COLUMNS, "system"),
    **dict.fromkeys(TOOL_COLUMNS, "tools"),
    **dict.fromkeys((*MEDIA_COLUMNS, *REASONING_KEYS, *FLAGS, *WEIGHTS, *UNCLEAR_FLAGS), ""),
    **dict.fromkeys(LABEL_COLUMNS, LABEL),
    "history": "history",
}
"""Names of columns that usually hold values which training needs, each with the format's field that can read it.

The field is empty if no field can read the column.
"""


def is_empty(value: Any) -> bool:
    """Whether a value is empty: null, blank text, or a list or object of only such values."""
    if isinstance(value, dict):
        return all(map(_is_blank, value.values()))
    return all(map(_is_blank, value)) if isinstance(value, list) else _is_blank(value)


def _is_blank(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, dict | list) and not value)


def is_truth_value(value: Any) -> bool:
    """Whether a value is true or false, as a boolean or as text."""
    return isinstance(value, bool) or (isinstance(value, str) and value.strip().casefold() in ("true", "false"))


def how_to_read(column: str, field: str | None) -> str:
    """Return advice on how to change the settings so that an unread column is read or ignored.

    Args:
        column: the unread column.
        field: the format's field that can read the column; `None` if there is no such field.
    """
    if field:
        read = f"Set data.format.{field}={column} to read it"
    elif column.casefold() in LABEL_COLUMNS:
        read = "Choose data=local_unpaired_preference, which reads it, if it says whether the answer is good"
    else:
        read = "Choose a format that reads it"
    return f"{read}, or leave it out with data.format.ignore_columns=[{column}]"
