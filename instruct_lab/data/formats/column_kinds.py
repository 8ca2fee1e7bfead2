"""Detection of what each column of some rows holds, for example texts or lists of messages."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from instruct_lab.data.formats.preference import TRANSCRIPT
from instruct_lab.data.formats.turns import MESSAGES_ROLES, SHAREGPT_ROLES, decode_turns
from instruct_lab.data.formats.unpaired_preference import LABELS
from instruct_lab.data.formats.unused import is_empty, is_truth_value
from instruct_lab.data.sources.base import Row
from instruct_lab.errors import InstructLabError

Kind = Literal["text", "turns", "texts", "truth", "number", "other", "empty"]
ROLES = MESSAGES_ROLES.keys() | SHAREGPT_ROLES.keys()
TURN_KEYS = (("role", "content"), ("from", "value"))
"""The usual keys of the role and the text of a turn."""

CALLS = frozenset({"tool_calls", "function_call"})
"""Keys of tool calls; a turn with one of them may have no text."""


@dataclasses.dataclass(frozen=True)
class ColumnKind:
    """The kind of the values in a column.

    Args:
        column: the name of the column.
        kind: `text`, `turns` (a list of messages), `texts` (a list of texts), `truth` (true or false), `number`,
            `other` or `empty`.
        role_key: the key of the role in a turn, if the values are turns.
        content_key: the key of the text in a turn, if the values are turns.
        has_prompt: whether the values are conversations or transcripts that begin with a prompt.
        is_label: whether all values are usual marks of good and bad answers, such as true and false.
        answer_path: the path from the column to the first of several acceptable answers, such as `.text[0]`; empty if
            the values are not lists of answers.
    """

    column: str
    kind: Kind
    role_key: str = ""
    content_key: str = ""
    has_prompt: bool = False
    is_label: bool = False
    answer_path: str = ""

    @property
    def is_message(self) -> bool:
        """Whether the values are texts or turns, which a format can read as messages."""
        return self.kind in ("text", "turns")

    @property
    def is_openai(self) -> bool:
        """Whether the turns have the keys `role` and `content`."""
        return (self.role_key, self.content_key) == TURN_KEYS[0]


def normalize(column: str) -> str:
    """Return the name of a column in lower case, with underscores for spaces and hyphens."""
    return column.strip().casefold().replace(" ", "_").replace("-", "_")


def kinds_of(rows: Sequence[Row]) -> dict[str, ColumnKind]:
    """Return what each column holds, keyed by the column's name in lower case, with underscores for spaces and hyphens.

    Columns that fewer than half of the rows have are left out.
    """
    counts: dict[str, int] = {}
    for row in rows:
        for name in row.columns:
            counts[name] = counts.get(name, 0) + 1
    common = [name for name, count in counts.items() if isinstance(name, str) and 2 * count >= len(rows)]
    return {normalize(name): _kind_of(name, rows) for name in reversed(common)}


def _kind_of(column: str, rows: Sequence[Row]) -> ColumnKind:
    values = [(row, row.columns[column]) for row in rows if not is_empty(row.columns.get(column))]
    if not values:
        return ColumnKind(column, "empty")
    turns = [_turns_in(row, value) for row, value in values]
    if all(turns):
        return _kind_of_turns(column, [turn for found in turns for turn in found], [found[0] for found in turns])
    plain = [value for _, value in values]
    is_label = all(str(value).strip().casefold() in LABELS for value in plain)
    if all(map(is_truth_value, plain)):
        return ColumnKind(column, "truth", is_label=True)
    if all(isinstance(value, str) for value in plain):
        return ColumnKind(column, "text", has_prompt=all(map(TRANSCRIPT.match, plain)), is_label=is_label)
    if all(isinstance(value, int | float) for value in plain):
        return ColumnKind(column, "number", is_label=is_label)
    if all(map(_is_texts, plain)):
        return ColumnKind(column, "texts", answer_path="[0]")
    if all(isinstance(value, dict) and _is_texts(value.get("text")) for value in plain):
        return ColumnKind(column, "other", answer_path=".text[0]")
    return ColumnKind(column, "other")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _turns_in(row: Row, row_value: Any) -> list[dict[str, Any]]:
    """Return the turns in a value: a list of turns, one turn, or the JSON text of either.

    The list is empty if the value holds no turns.
    """
    value = row_value
    with contextlib.suppress(InstructLabError):
        value = decode_turns(row, value, "")
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return []
    is_one = isinstance(row_value, dict)
    keys = _turn_keys(value) if value else None
    return value if keys is not None and (keys in TURN_KEYS or not is_one) else []


def _turn_keys(turns: Sequence[dict[str, Any]]) -> tuple[str, str] | None:
    """Return the key of the role and the key of the text in the given turns; `None` if they cannot be determined."""
    shared = set.intersection(*(set(turn) for turn in turns))
    for role, content in TURN_KEYS:
        if role in shared and all(content in turn or not CALLS.isdisjoint(turn) for turn in turns):
            return role, content
    roles = [key for key in shared if all(str(turn[key]).strip().casefold() in ROLES for turn in turns)]
    if len(roles) != 1:
        return None
    texts = [key for key in shared - {*roles} if all(isinstance(turn[key], str) for turn in turns)]
    return (roles[0], texts[0]) if len(texts) == 1 else None


def _kind_of_turns(column: str, turns: Sequence[dict[str, Any]], first: Sequence[dict[str, Any]]) -> ColumnKind:
    keys = _turn_keys(turns)
    if keys is None:
        return ColumnKind(column, "other")
    has_prompt = all(SHAREGPT_ROLES.get(str(turn[keys[0]]).strip().casefold()) != "assistant" for turn in first)
    return ColumnKind(column, "turns", *keys, has_prompt=has_prompt)
