"""Formats of many turns: ShareGPT conversations and OpenAI messages."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.conversation import Message, Role
from instruct_lab.data.format import Format
from instruct_lab.data.single_turn_formats import Column
from instruct_lab.data.source import Row

STANDARD_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
SHAREGPT_ROLES: dict[str, Role] = {
    **STANDARD_ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}
MESSAGES_ROLES: dict[str, Role] = {**STANDARD_ROLES, "developer": "system", "function": "tool"}


@component
class ShareGPT(Format):
    """A list of turns with `from` and `value`. Roles: human, gpt, system, tool, and their usual other names."""

    conversations: Column = "conversations"  # column of the list of turns
    role: Column = "from"  # key of who speaks, in a turn
    content: Column = "value"  # key of what is said, in a turn
    system: Column | None = None  # column of a system message, where the rows have one outside the list
    roles: dict[str, Role | None] = Field(default_factory=dict)  # further names of roles, for example {bot: assistant}

    def required(self) -> dict[str, list[str]]:
        """The list of turns, and the system column where one is named."""
        columns = {"conversations": [self.conversations]}
        return columns | ({"system": [self.system]} if self.system else {})

    def told_columns(self) -> set[str | None]:
        """The list of turns, and the system column."""
        return {self.conversations, self.system}

    def turns(self, row: Row) -> list[Message]:
        """The system message (where there is one), then the turns."""
        names = _role_names(SHAREGPT_ROLES, self.roles)
        turns = [
            Message(
                _role(turn, self.role, names, row, place),
                row.checked_text(_value(turn, self.content, row, place), place),
            )
            for turn, place in _turns(row, self.conversations)
        ]
        if self.system and row.columns.get(self.system) is not None and row.text(self.system).strip():
            return [Message("system", row.text(self.system)), *turns]
        return turns


@component
class Messages(Format):
    """OpenAI messages: `role` and `content`, optionally `trained` (true or false) or `weight` (1 or 0) in each.

    Content given as a list of text parts is joined; parts that are not text are refused.
    """

    messages: Column = "messages"  # column of the list of messages
    roles: dict[str, Role | None] = Field(default_factory=dict)  # further names of roles, for example {bot: assistant}

    def required(self) -> dict[str, list[str]]:
        """The list of messages."""
        return {"messages": [self.messages]}

    def told_columns(self) -> set[str | None]:
        """The list of messages."""
        return {self.messages}

    def turns(self, row: Row) -> list[Message]:
        """The messages as they stand."""
        names = _role_names(MESSAGES_ROLES, self.roles)
        return [
            Message(
                _role(turn, "role", names, row, place),
                _joined(_value(turn, "content", row, place), row, place),
                _trained(turn, row, place),
            )
            for turn, place in _turns(row, self.messages)
        ]


def _turns(row: Row, column: str) -> list[tuple[dict[str, Any], str]]:
    """Each turn of the column's list, with the place that errors name."""
    if column not in row.columns:
        row.text(column)
    turns = row.columns[column]
    if not isinstance(turns, list):
        raise row.error(f"A list of turns was expected and {type(turns).__name__} found", f"column {column!r}")
    if not turns:
        raise row.error("The list of turns is empty", f"column {column!r}", "Remove the row")
    placed = [(turn, f"column {column!r}, turn {number}") for number, turn in enumerate(turns, start=1)]
    for turn, place in placed:
        if not isinstance(turn, dict):
            raise row.error(f"An object was expected and {type(turn).__name__} found", place, "Mend the row")
    return placed


def _value(turn: dict[str, Any], key: str, row: Row, place: str) -> Any:
    if key not in turn:
        close = nearest(key, map(str, turn))
        hint = f"Did you mean {close!r}? " if close else ""
        raise row.error(f"The turn has no {key!r}", place, f"{hint}It has: {', '.join(map(str, turn)) or 'nothing'}")
    return turn[key]


def _role_names(known: dict[str, Role], further: dict[str, Role | None]) -> dict[str, Role]:
    return known | {name.casefold(): role for name, role in further.items() if role is not None}


def _role(turn: dict[str, Any], key: str, names: dict[str, Role], row: Row, place: str) -> Role:
    name = row.checked_text(_value(turn, key, row, place), place)
    role = names.get(name.strip().casefold())
    if role is None:
        close = nearest(name, names)
        hint = f"Did you mean {close!r}? " if close else ""
        raise row.error(
            f"The role {name!r} is unknown",
            place,
            f"{hint}Roles: {', '.join(names)}; name others in the format's roles",
        )
    return role


def _joined(content: Any, row: Row, place: str) -> str:
    if not isinstance(content, list):
        return row.checked_text(content, place)
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise row.error("Only text parts can be trained on", place, "Remove the parts that are not text")
    return "".join(row.checked_text(part.get("text"), place) for part in content)


def _trained(turn: dict[str, Any], row: Row, place: str) -> bool | None:
    trained, weight = turn.get("trained"), turn.get("weight")
    if trained is None and weight is None:
        return None
    flag = weight if trained is None else trained
    if flag not in (0, 1):  # True and False too
        raise row.error(f"trained or weight must be true or false, 1 or 0; {flag!r} was found", place, "Mend the row")
    return bool(flag)
