"""Formats of many turns: ShareGPT conversations and OpenAI messages, with tool calls."""

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
    """A list of turns with `from` and `value`. Roles: human, gpt, system, tool, and their usual other names.

    What `function_call` says is JSON of one call or a list of calls, each with name and arguments; an `observation` is
    a tool's result.
    """

    conversations: Column = "conversations"  # column of the list of turns
    role: Column = "from"  # key of who speaks, in a turn
    content: Column = "value"  # key of what is said, in a turn
    system: Column | None = None  # column of a system message, where the rows have one outside the list
    tools: Column | None = "tools"  # column of the tools' JSON schemas (a list, or JSON of one), where the rows have it
    tool_convention: ToolConvention = "hermes"  # how calls and tools are written: hermes (Qwen, Hermes), or json
    roles: dict[str, Role | None] = Field(default_factory=dict)  # further names of roles, for example {bot: assistant}

    def required(self) -> dict[str, list[str]]:
        """The list of turns, and the system column where one is named."""
        columns = {"conversations": [self.conversations]}
        return columns | ({"system": [self.system]} if self.system else {})

    def consumed_columns(self) -> set[str | None]:
        """The list of turns, the system column and that of the tools."""
        return {self.conversations, self.system, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """The system message (where there is one) with the tools, then the turns."""
        tools = ToolUse(row, self.tools, self.tool_convention)
        turns = placed_turns(row, value_of(row, self.conversations), self.conversations)
        messages = sharegpt_messages(row, turns, self.roles, tools, self.role, self.content)
        system = optional_text(row, self.system)
        return with_system([Message("system", system), *messages] if system.strip() else messages, tools)


@component
class Messages(Format):
    """OpenAI messages: `role` and `content`, optionally `trained` (true or false) or `weight` (a number) in each.

    A message of weight 0 is not trained; one of another weight is, and its tokens count so much in the loss.
    Content given as a list of text parts is joined; parts that are not text are refused. `tool_calls` are written into
    the content, and messages of role tool are their results.
    """

    messages: Column = "messages"  # column of the list of messages
    tools: Column | None = "tools"  # column of the tools' JSON schemas (a list, or JSON of one), where the rows have it
    tool_convention: ToolConvention = "hermes"  # how calls and tools are written: hermes (Qwen, Hermes), or json
    roles: dict[str, Role | None] = Field(default_factory=dict)  # further names of roles, for example {bot: assistant}

    def required(self) -> dict[str, list[str]]:
        """The list of messages."""
        return {"messages": [self.messages]}

    def consumed_columns(self) -> set[str | None]:
        """The list of messages, and the tools."""
        return {self.messages, self.tools}

    def turns(self, row: Row) -> list[Message]:
        """The messages as they stand; calls as text, tools in the system message."""
        tools = ToolUse(row, self.tools, self.tool_convention)
        turns = placed_turns(row, value_of(row, self.messages), self.messages)
        return with_system(openai_messages(row, turns, self.roles, tools), tools)


Turns = Iterator[tuple[dict[str, Any], str]]


def placed_turns(row: Row, turns: Any, column: str) -> Turns:
    """Each turn of a list, with the place that errors name.

    Raises:
        InstructLabError: it is no list, is empty, or holds something else than objects.
    """
    if not isinstance(turns, list):
        raise row.error(f"A list of turns was expected and {type(turns).__name__} found", f"column {column!r}")
    if not turns:
        raise row.error("The list of turns is empty", f"column {column!r}", "Remove the row")
    for number, turn in enumerate(turns, start=1):
        place = f"column {column!r}, turn {number}"
        if not isinstance(turn, dict):
            raise row.error(f"An object was expected and {type(turn).__name__} found", place, "Mend the row")
        yield turn, place


def sharegpt_messages(
    row: Row,
    turns: Turns,
    roles: dict[str, Role | None],
    tools: ToolUse,
    role_key: str = "from",
    content_key: str = "value",
) -> list[Message]:
    """Turns with `from` and `value`, as messages.

    Raises:
        InstructLabError: a turn does not have that shape; a call or a result that `ToolUse` refuses.
    """
    own, messages = own_names(roles), []
    names = SHAREGPT_ROLES | own
    for turn, place in turns:
        name, role = _role(turn, role_key, names, row, place)
        text = row.check_text(_value(turn, content_key, row, place), place)
        if name in CALLING_ROLES and name not in own and "<tool_call>" not in text:
            text = tools.calls("", text, place)
        elif role == "tool" and name not in own:
            tools.result(None, turn.get("name"), place)
        else:
            tools.says(role, text)
        messages.append(Message(role, text))
    return messages


def openai_messages(row: Row, turns: Turns, roles: dict[str, Role | None], tools: ToolUse) -> list[Message]:
    """Turns with `role` and `content`, as messages.

    Raises:
        InstructLabError: a turn does not have that shape; a call or a result that `ToolUse` refuses.
    """
    own, messages = own_names(roles), []
    names = MESSAGES_ROLES | own
    for turn, place in turns:
        name, role = _role(turn, "role", names, row, place)
        calls = turn.get("tool_calls") or turn.get("function_call")
        if calls:
            if role != "assistant":
                raise row.error(f"Only an assistant calls tools; here {role} does", place, "Mend the row")
            said = "" if turn.get("content") is None else _joined(turn["content"], row, place)
            text = tools.calls(said, calls, place)
        else:
            text = _joined(_value(turn, "content", row, place), row, place)
            if role == "tool" and (name not in own or turn.get("tool_call_id")):
                tools.result(turn.get("tool_call_id") or None, turn.get("name"), place)
            else:
                tools.says(role, text)
        messages.append(Message(role, text, *_trained(turn, row, place)))
    return messages


def with_system(messages: list[Message], tools: ToolUse) -> list[Message]:
    """The messages, with the tools in the system message that opens them."""
    own = messages[0] if messages[0].role == "system" else None
    system = tools.system(own.content if own else "")
    if own is None:
        return [Message("system", system), *messages] if system else messages
    return [dataclasses.replace(own, content=system), *messages[1:]]


def _value(turn: dict[str, Any], key: str, row: Row, place: str) -> Any:
    if key not in turn:
        close = nearest(key, map(str, turn))
        hint = f"Did you mean {close!r}? " if close else ""
        raise row.error(f"The turn has no {key!r}", place, f"{hint}It has: {', '.join(map(str, turn)) or 'nothing'}")
    return turn[key]


def own_names(roles: dict[str, Role | None]) -> dict[str, Role]:
    """The names that the config adds: what they say is taken as it is."""
    return {name.casefold(): role for name, role in roles.items() if role is not None}


def _role(turn: dict[str, Any], key: str, names: dict[str, Role], row: Row, place: str) -> tuple[str, Role]:
    """The role's name as the row spells it, case folded, and the role."""
    told = row.check_text(_value(turn, key, row, place), place)
    name = told.strip().casefold()
    role = names.get(name)
    if role is None:
        close = nearest(told, names)
        hint = f"Did you mean {close!r}? " if close else ""
        raise row.error(
            f"The role {told!r} is unknown",
            place,
            f"{hint}Roles: {', '.join(names)}; name others in the format's roles",
        )
    return name, role


def _joined(content: Any, row: Row, place: str) -> str:
    if not isinstance(content, list):
        return row.check_text(content, place)
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise row.error("Only text parts can be trained on", place, "Remove the parts that are not text")
    return "".join(row.check_text(part.get("text"), place) for part in content)


def _trained(turn: dict[str, Any], row: Row, place: str) -> tuple[bool | None, float]:
    """Whether a turn is trained, where it says so, and how much its tokens count."""
    trained, weight = turn.get("trained"), turn.get("weight")
    if trained not in (None, 0, 1):  # True and False too
        raise row.error(f"trained must be true or false; {trained!r} was found", place, "Mend the row")
    if weight is None:
        return None if trained is None else bool(trained), 1.0
    if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise row.error(f"weight must be a number from 0 up; {weight!r} was found", place, "Mend the row")
    counts = weight > 0 and trained in (None, 1)
    return counts, float(weight) if counts else 1.0
