"""Rendering of tools and tool calls as text, and matching of each tool result with its call.

Conversations hold text, so calls are rendered into the assistant's message and tools into the system message, in one of
two conventions:

- `hermes`, as in the chat templates of Qwen 2.5, Qwen 3 and Hermes: for each call a line `<tool_call>`, a line of JSON
  with name and arguments, and a line `</tool_call>`;
- `json`: one list of all calls, `[{"name": ..., "arguments": {...}}, ...]`, without markers.

The result of a call stays unchanged in a message of role tool; the template adds the markers around it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from instruct_lab.config.spelling import nearest
from instruct_lab.data.formats.columns import has_column, value_of
from instruct_lab.data.formats.turn_keys import refuse_unused
from instruct_lab.data.sources.base import Row

ToolConvention = Literal["hermes", "json"]
HERMES_SYSTEM = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""
JSON_SYSTEM = """# Tools

You may call these functions:
{tools}

To call functions, answer with a JSON list of calls:
[{{"name": <function-name>, "arguments": <args-json-object>}}]"""
FUNCTION_KEYS = frozenset({"name", "arguments"})
CALL_KEYS = FUNCTION_KEYS | {"id", "type", "function", "index"}
WRITTEN_CALL = re.compile(r"[(\[{<]")
"""Matches an opening bracket, which every call in text contains."""


class ToolUse:
    """Keeps track of the tool calls in one row, and matches each result with its call.

    Args:
        row: the row that contains the calls.
        column: column of the tools' JSON schemas; if it is `None`, missing or empty, any tool may be called.
        convention: how calls and tools are written as text: `hermes` (JSON between `<tool_call>` tags) or `json` (a
            list).
        ignored: keys in a call that the user chose to ignore.
    """

    def __init__(self, row: Row, column: str | None, convention: ToolConvention, ignored: Sequence[str] = ()) -> None:
        self._row, self._convention, self._ignored = row, convention, ignored
        self._tools = _parse_tools(row, column) if column else None
        self._waiting: dict[str | int, str] = {}  # names of the called tools without a result, by id or index
        self._num_calls = 0
        self._may_hold_call = False  # whether the assistant's text since the last user message may hold a call

    def render_system(self, text: str) -> str:
        """Return the text of a system message followed by the list of tools; without tools, return only the text."""
        if not self._tools:
            return text
        listed = "\n".join(_json(tool) for tool in self._tools.values())
        tools = (HERMES_SYSTEM if self._convention == "hermes" else JSON_SYSTEM).format(tools=listed)
        return self._row.check_text(f"{text}\n\n{tools}" if text.strip() else tools, "tools")

    def render_calls(self, text: str, calls: Any, location: str) -> str:
        """Render the assistant's message: its text, then its calls.

        Args:
            text: the assistant's text, which may be empty.
            calls: the list of calls, or its JSON text. A call is `{"function": {"name", "arguments"}, "id"}`, or only
                name and arguments. Arguments are an object or its JSON text; missing arguments are an empty object.
            location: location in the row, for error messages.

        Raises:
            InstructLabError: a call has no name, the row does not list the tool that it calls, or its arguments are not
                JSON.
        """
        is_table = self._row.has_padding and not isinstance(calls, str)
        if isinstance(calls, str):
            calls = self._decode(calls, "The call is", location)
        if isinstance(calls, dict):
            calls = [calls]
        if not isinstance(calls, list):
            raise self._row.error(f"A list of calls was expected and {type(calls).__name__} found", location)
        parsed = [self._parse_call(call, location, is_table) for call in calls]
        if self._convention == "hermes":
            rendered = "\n".join(f"<tool_call>\n{_json(call)}\n</tool_call>" for call in parsed)
        else:
            rendered = _json(parsed)
        return self._row.check_text(f"{text}\n{rendered}" if text else rendered, location)

    def add_text(self, role: str, text: str) -> None:
        """Note a message without structured tool calls, to decide whether a tool's result may follow it.

        A result may follow if an assistant's text since the last user message contains a bracket, because every call
        that is written as text contains one.
        """
        if role == "assistant":
            self._may_hold_call = self._may_hold_call or WRITTEN_CALL.search(text) is not None
        elif role == "user":
            self._may_hold_call = False

    def add_result(self, identity: Any, name: Any, location: str) -> None:
        """Match a tool's result with its call: by id, else by tool name, else with the first call that has no result.

        Args:
            identity: the id of the call; `None` if the result has no id.
            name: the name of the tool; `None` if the result does not name it.
            location: location in the row, for error messages.

        Raises:
            InstructLabError: there is no such call.
        """
        identity, name = self._name(identity, location), self._name(name, location)
        call: str | int | None
        if identity and (identity in self._waiting or not self._has_calls_without_id()):
            call = identity if identity in self._waiting else None
        elif name:
            call = next((key for key, called in self._waiting.items() if called == name), None)
        else:
            call = next(iter(self._waiting), None)
        if call is not None:
            if name and self._waiting[call] != name:
                what = f"The result is of the tool {name!r} and the call of {self._waiting[call]!r}"
                raise self._row.error(what, location, "Correct the row")
            del self._waiting[call]
        elif self._num_calls or identity or not self._may_hold_call:
            raise self._row.error("A tool's result has no call before it", location, "Remove or correct the row")

    def _name(self, value: Any, location: str) -> str:
        """Return the id or tool name of a call as text; empty for `None`."""
        return "" if value is None else self._row.check_text(value, f"{location}, name or id of a call")

    def _has_calls_without_id(self) -> bool:
        """Whether a call without an id has no result yet, so that a result with any id may belong to it."""
        return any(isinstance(key, int) for key in self._waiting)

    def _parse_call(self, call: Any, location: str, is_table: bool) -> dict[str, Any]:
        function = call.get("function") or call if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise self._row.error(f"An object was expected as a call and {_kind(function or call)} found", location)
        name = self._row.check_text(function.get("name"), f"{location}, name of the called tool")
        refuse_unused(
            call,
            CALL_KEYS if function is call else CALL_KEYS - FUNCTION_KEYS,
            self._ignored,
            self._row,
            f"{location}, call",
        )
        refuse_unused(function, CALL_KEYS, self._ignored, self._row, f"{location}, call of {name!r}")
        if not name.strip():
            raise self._row.error("A call names no tool", location, "Correct the row")
        if self._tools is not None and name not in self._tools:
            close = nearest(name, self._tools)
            hint = f"Did you mean {close!r}? " if close else ""
            known = ", ".join(self._tools) or "none"
            raise self._row.error(
                f"The tool {name!r} is called, which is not among the row's tools", location, hint + known
            )
        arguments = function.get("arguments")
        has_padding = is_table and not isinstance(arguments, str)
        if isinstance(arguments, str):
            arguments = self._decode(arguments, f"The arguments of {name!r} are", location)
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            what = f"An object of arguments was expected for {name!r} and {_kind(arguments)} found"
            raise self._row.error(what, location, "Correct the row")
        identity = self._name(call.get("id"), location)
        self._waiting[identity if identity and identity not in self._waiting else self._num_calls] = name
        self._num_calls += 1
        schema = self._tools[name]["function"].get("parameters") if self._tools is not None else None
        if has_padding or self._tools is not None:
            arguments = _without_padding(arguments, schema, has_padding)
        parsed = {"name": name, "arguments": arguments}
        try:
            _json(parsed)
        except (ValueError, TypeError, RecursionError) as error:
            raise self._row.error(
                f"The arguments of {name!r} are not JSON ({error})", location, "Correct the row"
            ) from error
        return parsed

    def _decode(self, text: str, what: str, location: str) -> Any:
        try:
            return STRICT.decode(text)
        except RecursionError as error:
            raise self._row.error(f"{what} nested too deeply", location, "Correct the row") from error
        except ValueError as error:
            raise self._row.error(f"{what} not JSON ({error})", location, "Correct the row") from error


def _parse_tools(row: Row, column: str) -> dict[str, dict[str, Any]] | None:
    """Return the row's tools, keyed by name, as `{"type": "function", "function": {...}}`; `None` if it has no tools.

    Keys whose value is null are dropped: in a table, all objects of a column have the same keys, and nulls fill the
    missing values.
    """
    if not has_column(row, column):
        return None
    value, location = value_of(row, column), f"column {column!r}"
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    do = "Correct the row, or set the format's tools to null"
    try:
        value = STRICT.decode(value) if isinstance(value, str) else value
        if not isinstance(value, list):
            raise row.error(f"A list of tools was expected and {_kind(value)} found", location, do)
        tools = [_without_nulls(STRICT.decode(tool) if isinstance(tool, str) else tool) for tool in value]
        _json(tools)
    except (ValueError, TypeError, RecursionError) as error:
        raise row.error(f"The tools are not JSON ({error})", location, do) from error
    by_name = {}
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise row.error("A tool has no name", location, do)
        by_name[name] = tool if "function" in tool else {"type": "function", "function": tool}
    return by_name


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _without_padding(value: Any, schema: Any, has_padding: bool) -> Any:
    """Remove nulls that stand for missing keys, at every level of a call's arguments.

    In a table, all objects of a column have the same keys, and nulls fill the missing values. So a null from a table
    (`has_padding`) is kept only if the schema requires its key. A null from another file is kept if the schema lists
    its key, or if there is no schema.
    """
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, list):
        return [_without_padding(inner, schema.get("items"), has_padding) for inner in value]
    if not isinstance(value, dict):
        return value
    known, required = schema.get("properties"), schema.get("required")
    if has_padding:
        kept = required if isinstance(required, list) else []
    else:
        kept = list(known) if isinstance(known, dict) else list(value)
    known = known if isinstance(known, dict) else {}
    return {
        key: _without_padding(inner, known.get(key), has_padding)
        for key, inner in value.items()
        if inner is not None or key in kept
    }


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique_object)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _kind(value: Any) -> str:
    return type(value).__name__
