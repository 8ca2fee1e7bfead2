"""Reading of a row's turns with `role` and `content`, or `from` and `value`; shared by all formats with messages."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.conversation import Message, Role
from instruct_lab.data.formats.base import Format
from instruct_lab.data.formats.columns import Column, text_of, value_of
from instruct_lab.data.formats.tool_calls import STRICT, ToolConvention, ToolUse
from instruct_lab.data.formats.turn_keys import (
    FLAG_KEYS,
    REASONING_KEYS,
    FlagMeaning,
    Reasoning,
    add_reasoning,
    refuse_unused,
    training_of,
)
from instruct_lab.data.sources.base import Row
from instruct_lab.errors import InstructLabError

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
    "tool_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
CALLING_ROLES = ("function_call", "tool_call")
MESSAGES_ROLES: dict[str, Role] = {**STANDARD_ROLES, "developer": "system", "function": "tool"}
COMMON_KEYS = FLAG_KEYS | {*REASONING_KEYS}
MESSAGES_KEYS = COMMON_KEYS | {"role", "content", "tool_calls", "function_call", "tool_call_id", "name"}
JSON_OBJECTS = re.compile(r"\s*(\[\s*)?\{")
"""Matches the beginning of a text that may be the JSON of messages."""
TURNS_TEXT = re.compile(r"""\s*(\[\s*\{\s*["'](role|content|from|value)|\{\s*["'](role|from))["']\s*:""")
"""Matches the beginning of a text that can only be meant as messages."""
PART_KEYS = frozenset({"type", "text"})


@component
class TurnFormat(Format, ABC):
    """Base class of the formats whose rows hold messages.

    A turn may set whether it is trained on: `trained` (or `train`, `training`, `trainable`, `loss`, `loss_mask`) is
    true or false, and `masked` has the opposite meaning. It may also set its `weight` (or `loss_weight`, `loss_scale`):
    a turn of weight 0 is not trained on, and any other weight multiplies the loss of its tokens. A row is broken if a
    turn has reasoning in a separate key and `reasoning` is not set. A row is also broken if a turn has a value in any
    other key; keys that only describe the turn (`id`, `timestamp`) and the keys in `ignore_keys` are ignored.
    """

    system: Column | None = "system"  # column of a system message outside the turns; may be missing or empty
    tools: Column | None = "tools"  # column of the tools' JSON schemas: a list or JSON text; may be missing
    tool_convention: ToolConvention = "hermes"  # format of calls and tools: hermes (Qwen, Hermes), or json
    roles: dict[str, Role | None] = Field(
        default_factory=dict
    )  # additional names of roles, for example {bot: assistant}
    flags: dict[str, FlagMeaning | None] = Field(
        default_factory=dict
    )  # additional keys of a turn that are true if it is trained, or untrained: {mask: untrained}
    ignore_keys: list[str] = Field(default_factory=list)  # keys of a turn to ignore
    reasoning: Reasoning | None = (
        None  # think_tags: in <think> tags before the answer; template: same, if the chat template does; drop: left out
    )

    def tool_use(self, row: Row) -> ToolUse:
        """Return an object that collects the row's tool calls and matches each result with its call."""
        return ToolUse(row, self.named(self.tools), self.tool_convention, self.ignore_keys)

    def read_turns(self, row: Row, value: Any, column: str, tools: ToolUse) -> list[Message]:
        """Convert turns with `role` and `content`, or `from` and `value`, to messages.

        Raises:
            InstructLabError: a turn lacks one of these keys or has a key that is not read, or a tool call or result is
                invalid.
        """
        value = decode_turns(row, value, f"column {column!r}")
        is_sharegpt = bool(value) and isinstance(value[0], dict) and "role" not in value[0] and "from" in value[0]
        return (self.sharegpt_messages if is_sharegpt else self.openai_messages)(row, value, column, tools)

    def read_column(self, row: Row, column: str, role: Role, tools: ToolUse) -> list[Message]:
        """Return the messages of a column, which holds a list of turns or the text of a single message with `role`.

        Raises:
            InstructLabError: the column holds neither turns nor text, or a turn, a tool call or its result is invalid.
        """
        value = decode_turns(row, value_of(row, column), f"column {column!r}")
        if isinstance(value, list) and (not value or isinstance(value[0], dict)):
            return self.read_turns(row, value, column, tools)
        return [Message(role, text_of(row, column))]

    def sharegpt_messages(
        self, row: Row, value: Any, column: str, tools: ToolUse, role_key: str = "from", content_key: str = "value"
    ) -> list[Message]:
        """Convert turns with `from` and `value` (or with the keys `role_key` and `content_key`) to messages."""
        custom, messages = custom_names(self.roles), []
        names, used = SHAREGPT_ROLES | custom, COMMON_KEYS | {role_key, content_key, "name"} | self.flags.keys()
        for turn, location in locate_turns(row, value, column):
            name, role = _role(turn, role_key, names, row, location)
            text = row.check_text(_value(turn, content_key, row, location), location)
            if name in CALLING_ROLES and name not in custom and "<tool_call>" not in text:
                text = tools.render_calls("", text, location)
            elif role == "tool" and name not in custom:
                tools.add_result(None, turn.get("name"), location)
            else:
                tools.add_text(role, text)
            messages.append(self._message(role, text, turn, used, row, location))
        return messages

    def openai_messages(self, row: Row, value: Any, column: str, tools: ToolUse) -> list[Message]:
        """Convert turns with `role` and `content` to messages."""
        custom, messages = custom_names(self.roles), []
        names, used = MESSAGES_ROLES | custom, MESSAGES_KEYS | self.flags.keys()
        for turn, location in locate_turns(row, value, column):
            name, role = _role(turn, "role", names, row, location)
            calls = turn.get("tool_calls") or turn.get("function_call")
            if turn.get("tool_calls") and turn.get("function_call"):
                raise row.error("The turn has both tool_calls and function_call", location, "Correct the row")
            if calls:
                if role != "assistant":
                    what = f"Only the assistant may call tools; here the {role} does"
                    raise row.error(what, location, "Correct the row")
                content = "" if turn.get("content") is None else self._join_parts(turn["content"], row, location)
                text = tools.render_calls(content, calls, location)
            else:
                text = self._join_parts(_value(turn, "content", row, location), row, location)
                if role == "tool" and (name not in custom or turn.get("tool_call_id")):
                    tools.add_result(turn.get("tool_call_id") or None, turn.get("name"), location)
                else:
                    tools.add_text(role, text)
            messages.append(self._message(role, text, turn, used, row, location))
        return messages

    def with_system(self, row: Row, messages: list[Message], tools: ToolUse) -> list[Message]:
        """Put a system message first: the text of the system column, followed by the list of tools.

        If the messages already begin with a system message, its text is kept, and only the list of tools is added to
        it. If the row has neither a system text nor tools, the messages are returned unchanged.

        Raises:
            InstructLabError: the column and the first turn hold different system messages.
        """
        system, first = self.system_text(row), messages[0] if messages and messages[0].role == "system" else None
        if system.strip() and (first is None or first.content.strip() != system.strip()):
            if first is not None:
                what = f"The column {self.system!r} and the first turn hold different system messages"
                do = "Correct the row, or leave the column out with data.format.system=null"
                raise row.error(what, f"column {self.system!r}", do)
            messages = [first := Message("system", system), *messages]
        text = tools.render_system(first.content if first else "")
        if first is None:
            return [Message("system", text), *messages] if text else messages
        return [dataclasses.replace(first, content=text), *messages[1:]]

    def _message(
        self, role: Role, text: str, turn: dict[str, Any], used: frozenset[str], row: Row, location: str
    ) -> Message:
        refuse_unused(turn, used, self.ignore_keys, row, location)
        if any(key in turn for key in REASONING_KEYS):
            kept = {key: value for key, value in turn.items() if key not in self.ignore_keys}
            text = add_reasoning(kept, role, text, self.reasoning, row, location)
        return Message(role, text, *training_of(turn, self.flags, self.ignore_keys, row, location))

    def _join_parts(self, content: Any, row: Row, location: str) -> str:
        if not isinstance(content, list):
            return row.check_text(content, location)
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text":
                raise row.error("Only text parts can be trained on", location, "Remove the parts that are not text")
            refuse_unused(part, PART_KEYS, self.ignore_keys, row, f"{location}, part of the content")
        return "".join(row.check_text(part.get("text"), location) for part in content)


def locate_turns(row: Row, turns: Any, column: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each turn of a list, and its location in the row for error messages; the list may be given as JSON text.

    Raises:
        InstructLabError: the value is neither a list nor the JSON text of a list, or the list is empty or holds values
            other than objects.
    """
    if isinstance(turns, str) and turns.lstrip().startswith(("[", "{")):
        turns = _decode_json(row, turns, f"column {column!r}")
    if not isinstance(turns, list):
        raise row.error(f"A list of turns was expected and {type(turns).__name__} found", f"column {column!r}")
    if not turns:
        raise row.error("The list of turns is empty", f"column {column!r}", "Remove the row")
    for number, turn in enumerate(turns, start=1):
        location = f"column {column!r}, turn {number}"
        if not isinstance(turn, dict):
            raise row.error(f"An object was expected and {type(turn).__name__} found", location, "Correct the row")
        yield turn, location


def decode_turns(row: Row, value: Any, location: str) -> Any:
    """Return the messages in a value as a list; if the value holds no messages, return it unchanged.

    Messages may be given as JSON text, as in a cell of a CSV file. A single message becomes a list of one.

    Raises:
        InstructLabError: the text begins like messages but is not JSON.
    """
    if isinstance(value, str) and JSON_OBJECTS.match(value):
        try:
            decoded = _decode_json(row, value, location)
        except InstructLabError:
            if TURNS_TEXT.match(value):
                raise
            return value
        turns = decoded if isinstance(decoded, list) else [decoded]
        return turns if all(map(_is_turn, turns)) else value
    return [value] if isinstance(value, dict) else value


def _is_turn(value: Any) -> bool:
    keys = value.keys() if isinstance(value, dict) else set()
    return {"from", "value"} <= keys or ("role" in keys and not keys.isdisjoint(("content", "tool_calls")))


def _decode_json(row: Row, text: str, location: str) -> Any:
    try:
        return STRICT.decode(text)
    except (ValueError, RecursionError) as error:
        is_python = re.match(r"\s*\[?\s*\{\s*'", text) is not None
        do = "Write it with json.dumps, not with Python's str or repr" if is_python else "Correct the row"
        raise row.error(f"The messages are not JSON ({error})", location, do) from error


def custom_names(roles: dict[str, Role | None]) -> dict[str, Role]:
    """Return the role for each role name that the config adds, keyed by the name in lower case.

    Turns with such a name keep their text unchanged.
    """
    return {name.casefold(): role for name, role in roles.items() if role is not None}


def _value(turn: dict[str, Any], key: str, row: Row, location: str) -> Any:
    if key not in turn:
        close = nearest(key, map(str, turn))
        hint = f"Did you mean {close!r}? " if close else ""
        raise row.error(f"The turn has no {key!r}", location, f"{hint}It has: {', '.join(map(str, turn)) or 'nothing'}")
    return turn[key]


def _role(turn: dict[str, Any], key: str, names: dict[str, Role], row: Row, location: str) -> tuple[str, Role]:
    """Return the name of the role in the turn, in lower case, and the standard role that it stands for.

    Args:
        turn: the turn.
        key: the key of the role.
        names: the standard role of each known role name; the names are in lower case.
        row: the row that contains the turn.
        location: the turn's location in the row.
    """
    spelled = row.check_text(_value(turn, key, row, location), location)
    name = spelled.strip().casefold()
    role = names.get(name)
    if role is None:
        close = nearest(spelled, names)
        hint = f"Did you mean {close!r}? " if close else ""
        raise row.error(
            f"The role {spelled!r} is unknown",
            location,
            f"{hint}Roles: {', '.join(names)}; add others to the format's roles",
        )
    return name, role
