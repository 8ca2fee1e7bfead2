"""Formats of multi-turn conversations: ShareGPT and OpenAI messages, with tool calls."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.config.spelling import nearest
from instruct_lab.data.conversation import Message, Role
from instruct_lab.data.formats.base import Column, Format, optional_text, value_of
from instruct_lab.data.formats.tool_calls import ToolConvention, ToolUse
from instruct_lab.data.sources.base import Row

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


@component
class ShareGPT(Format):
    """A list of turns with `from` and `value`. Roles: human, gpt, system, tool, and their usual synonyms.

    The value of a `function_call` is JSON: one call or a list of calls, each with name and arguments. An `observation`
    is the result of a tool.
    """

    conversations: Column = "conversations"  # column of the list of turns
    role: Column = "from"  # key of the role in a turn
    content: Column = "value"  # key of the text in a turn
    system: Column | None = None  # column of a system message outside the list
    tools: Column | None = "tools"  # column of the tools' JSON schemas: a list or JSON text; may be missing
    tool_convention: ToolConvention = "hermes"  # format of calls and tools: hermes (Qwen, Hermes), or json
    roles: dict[str, Role | None] = Field(
        default_factory=dict
    )  # additional names of roles, for example {bot: assistant}

    def required(self) -> dict[str, list[str]]:
        """Return the column of turns, and the system column if one is set."""
        columns = {"conversations": [self.conversations]}
        return columns | ({"system": [self.system]} if self.system else {})

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of turns, system message and tools."""
        return {self.conversations, self.system, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """Return the system message with the tools, then the turns."""
        tools = ToolUse(row, self.tools, self.tool_convention)
        turns = locate_turns(row, value_of(row, self.conversations), self.conversations)
        messages = sharegpt_messages(row, turns, self.roles, tools, self.role, self.content)
        system = optional_text(row, self.system)
        return with_system([Message("system", system), *messages] if system.strip() else messages, tools)


@component
class Messages(Format):
    """OpenAI messages: `role` and `content`, optionally `trained` (true or false) or `weight` (a number) in each.

    A message of weight 0 is not trained. A message with another weight is trained, and the weight multiplies the loss
    of its tokens. Content that is a list of text parts is joined; other parts are refused. `tool_calls` are rendered
    into the content; messages of role tool are their results.
    """

    messages: Column = "messages"  # column of the list of messages
    tools: Column | None = "tools"  # column of the tools' JSON schemas: a list or JSON text; may be missing
    tool_convention: ToolConvention = "hermes"  # format of calls and tools: hermes (Qwen, Hermes), or json
    roles: dict[str, Role | None] = Field(
        default_factory=dict
    )  # additional names of roles, for example {bot: assistant}

    def required(self) -> dict[str, list[str]]:
        """Return the column of messages."""
        return {"messages": [self.messages]}

    def consumed_columns(self) -> set[str | None]:
        """Return the columns of messages and tools."""
        return {self.messages, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """Return the messages, with calls as text and tools in the system message."""
        tools = ToolUse(row, self.tools, self.tool_convention)
        turns = locate_turns(row, value_of(row, self.messages), self.messages)
        return with_system(openai_messages(row, turns, self.roles, tools), tools)


Turns = Iterator[tuple[dict[str, Any], str]]


def locate_turns(row: Row, turns: Any, column: str) -> Turns:
    """Yield each turn of a list, with its location for error messages.

    Raises:
        InstructLabError: the value is not a list, is empty, or holds values other than objects.
    """
    if not isinstance(turns, list):
        raise row.error(f"A list of turns was expected and {type(turns).__name__} found", f"column {column!r}")
    if not turns:
        raise row.error("The list of turns is empty", f"column {column!r}", "Remove the row")
    for number, turn in enumerate(turns, start=1):
        location = f"column {column!r}, turn {number}"
        if not isinstance(turn, dict):
            raise row.error(f"An object was expected and {type(turn).__name__} found", location, "Correct the row")
        yield turn, location


def sharegpt_messages(
    row: Row,
    turns: Turns,
    roles: dict[str, Role | None],
    tools: ToolUse,
    role_key: str = "from",
    content_key: str = "value",
) -> list[Message]:
    """Convert turns with `from` and `value` to messages.

    Raises:
        InstructLabError: a turn lacks one of these keys, or `ToolUse` refuses a call or a result.
    """
    custom, messages = custom_names(roles), []
    names = SHAREGPT_ROLES | custom
    for turn, location in turns:
        name, role = _role(turn, role_key, names, row, location)
        text = row.check_text(_value(turn, content_key, row, location), location)
        if name in CALLING_ROLES and name not in custom and "<tool_call>" not in text:
            text = tools.render_calls("", text, location)
        elif role == "tool" and name not in custom:
            tools.add_result(None, turn.get("name"), location)
        else:
            tools.add_text(role, text)
        messages.append(Message(role, text))
    return messages


def openai_messages(row: Row, turns: Turns, roles: dict[str, Role | None], tools: ToolUse) -> list[Message]:
    """Convert turns with `role` and `content` to messages.

    Raises:
        InstructLabError: a turn lacks one of these keys, or `ToolUse` refuses a call or a result.
    """
    custom, messages = custom_names(roles), []
    names = MESSAGES_ROLES | custom
    for turn, location in turns:
        name, role = _role(turn, "role", names, row, location)
        calls = turn.get("tool_calls") or turn.get("function_call")
        if calls:
            if role != "assistant":
                raise row.error(f"Only the assistant may call tools; here the {role} does", location, "Correct the row")
            content = "" if turn.get("content") is None else _join_parts(turn["content"], row, location)
            text = tools.render_calls(content, calls, location)
        else:
            text = _join_parts(_value(turn, "content", row, location), row, location)
            if role == "tool" and (name not in custom or turn.get("tool_call_id")):
                tools.add_result(turn.get("tool_call_id") or None, turn.get("name"), location)
            else:
                tools.add_text(role, text)
        messages.append(Message(role, text, *_training_of(turn, row, location)))
    return messages


def with_system(messages: list[Message], tools: ToolUse) -> list[Message]:
    """Add the tools to the system message at the start."""
    first = messages[0] if messages[0].role == "system" else None
    system = tools.render_system(first.content if first else "")
    if first is None:
        return [Message("system", system), *messages] if system else messages
    return [dataclasses.replace(first, content=system), *messages[1:]]


def _value(turn: dict[str, Any], key: str, row: Row, location: str) -> Any:
    if key not in turn:
        close = nearest(key, map(str, turn))
        hint = f"Did you mean {close!r}? " if close else ""
        raise row.error(f"The turn has no {key!r}", location, f"{hint}It has: {', '.join(map(str, turn)) or 'nothing'}")
    return turn[key]


def custom_names(roles: dict[str, Role | None]) -> dict[str, Role]:
    """Return the names of roles that the config adds; texts of these roles are used unchanged."""
    return {name.casefold(): role for name, role in roles.items() if role is not None}


def _role(turn: dict[str, Any], key: str, names: dict[str, Role], row: Row, location: str) -> tuple[str, Role]:
    """Return the case-folded name of the role in the row, and the role."""
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


def _join_parts(content: Any, row: Row, location: str) -> str:
    if not isinstance(content, list):
        return row.check_text(content, location)
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise row.error("Only text parts can be trained on", location, "Remove the parts that are not text")
    return "".join(row.check_text(part.get("text"), location) for part in content)


def _training_of(turn: dict[str, Any], row: Row, location: str) -> tuple[bool | None, float]:
    """Return the `trained` of a turn (`None` if it is not set) and the weight of its tokens."""
    trained, weight = turn.get("trained"), turn.get("weight")
    if trained not in (None, 0, 1):  # 0 and 1 equal False and True
        raise row.error(f"trained must be true or false; {trained!r} was found", location, "Correct the row")
    if weight is None:
        return None if trained is None else bool(trained), 1.0
    if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise row.error(f"weight must be a number from 0 up; {weight!r} was found", location, "Correct the row")
    is_trained = weight > 0 and trained in (None, 1)
    return is_trained, float(weight) if is_trained else 1.0
