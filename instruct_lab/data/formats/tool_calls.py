"""Tool calls as text: what an assistant calls, the tools it may call, and which result answers which call.

Conversations hold text, so a call is written into the assistant's message by a convention, and the tools into the
system message:

- `hermes`: as the chat templates of Qwen 2.5, Qwen 3 and Hermes write them: `<tool_call>`, a line of JSON with name and
  arguments, `</tool_call>`; one such block a call, on lines of their own.
- `json`: a list of all calls, `[{"name": ..., "arguments": {...}}, ...]`, without markers.

A result stays what it is, in a message of role tool: how it is marked is the template's to say.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from instruct_lab.config.spelling import nearest
from instruct_lab.data.formats.base import has_column, value_of
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
WRITTEN_CALL = re.compile(r"[(\[{<]")
"""What text must hold to be a call in any convention: arguments stand in brackets."""


class ToolUse:
    """Follows the calls and results of one row, in order.

    Args:
        row: named in errors.
        column: of the tools' JSON schemas; none, no such column, or null or empty text in it: any tool may be called.
        convention: how calls and tools are written.
    """

    def __init__(self, row: Row, column: str | None, convention: ToolConvention) -> None:
        self._row, self._convention = row, convention
        self._tools = _declared(row, column) if column else None
        self._waiting: dict[str | int, str] = {}  # names of the calls without a result, by id or else by number
        self._num_calls = 0
        self._may_hold_call = False  # the assistant's text since the last user message

    def system(self, said: str) -> str:
        """The system message: what it says by itself, and the tools; empty where there is neither."""
        if not self._tools:
            return said
        listed = "\n".join(_json(tool) for tool in self._tools.values())
        text = (HERMES_SYSTEM if self._convention == "hermes" else JSON_SYSTEM).format(tools=listed)
        return self._row.check_text(f"{said}\n\n{text}" if said.strip() else text, "tools")

    def calls(self, said: str, calls: Any, place: str) -> str:
        """The assistant's message: what it says, then its calls.

        Args:
            said: its text beside the calls; may be empty.
            calls: the list of calls (or JSON of it): `{"function": {"name", "arguments"}, "id"}`, or name and arguments
                alone. Arguments are an object, or JSON of one; none are an empty object.
            place: named in errors.

        Raises:
            InstructLabError: a call has no name, names a tool that the row does not, or its arguments are not JSON.
        """
        if isinstance(calls, str):
            calls = self._decoded(calls, "The call is", place)
        if isinstance(calls, dict):
            calls = [calls]
        if not isinstance(calls, list):
            raise self._row.error(f"A list of calls was expected and {type(calls).__name__} found", place)
        written = [self._call(call, place) for call in calls]
        if self._convention == "hermes":
            text = "\n".join(f"<tool_call>\n{_json(call)}\n</tool_call>" for call in written)
        else:
            text = _json(written)
        return self._row.check_text(f"{said}\n{text}" if said else text, place)

    def says(self, role: str, text: str) -> None:
        """A message without calls: an assistant's text may hold one that is written already."""
        if role == "assistant":
            self._may_hold_call = self._may_hold_call or WRITTEN_CALL.search(text) is not None
        elif role == "user":
            self._may_hold_call = False

    def result(self, identity: Any, name: Any, place: str) -> None:
        """A tool's result answers a call: that of its id, or else of its name, or else the first that waits.

        Raises:
            InstructLabError: no call waits for it.
        """
        identity, name = self._name(identity, place), self._name(name, place)
        call: str | int | None
        if identity and (identity in self._waiting or not self._is_unnamed()):
            call = identity if identity in self._waiting else None
        elif name:
            call = next((key for key, called in self._waiting.items() if called == name), None)
        else:
            call = next(iter(self._waiting), None)
        if call is not None:
            if name and self._waiting[call] != name:
                told = f"The result is of the tool {name!r} and the call of {self._waiting[call]!r}"
                raise self._row.error(told, place, "Mend the row")
            del self._waiting[call]
        elif self._num_calls or identity or not self._may_hold_call:
            raise self._row.error("A tool's result stands without a call before it", place, "Remove or mend the row")

    def _name(self, told: Any, place: str) -> str:
        """An id or a name; empty where there is none."""
        return "" if told is None else self._row.check_text(told, f"{place}, name or id of a call")

    def _is_unnamed(self) -> bool:
        """Whether calls wait that have no id, which a result's id may then mean."""
        return any(isinstance(key, int) for key in self._waiting)

    def _call(self, call: Any, place: str) -> dict[str, Any]:
        function = call.get("function") or call if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise self._row.error(f"An object was expected as a call and {_kind(function or call)} found", place)
        name = self._row.check_text(function.get("name"), f"{place}, name of the called tool")
        if not name.strip():
            raise self._row.error("A call names no tool", place, "Mend the row")
        if self._tools is not None and name not in self._tools:
            close = nearest(name, self._tools)
            hint = f"Did you mean {close!r}? " if close else ""
            known = ", ".join(self._tools) or "none"
            raise self._row.error(
                f"The tool {name!r} is called, which the row's tools do not name", place, hint + known
            )
        arguments = function.get("arguments")
        if isinstance(arguments, str):
            arguments = self._decoded(arguments, f"The arguments of {name!r} are", place)
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            told = f"An object of arguments was expected for {name!r} and {_kind(arguments)} found"
            raise self._row.error(told, place, "Mend the row")
        identity = self._name(call.get("id"), place)
        self._waiting[identity if identity and identity not in self._waiting else self._num_calls] = name
        self._num_calls += 1
        written = {"name": name, "arguments": self._named_arguments(name, arguments)}
        try:
            _json(written)
        except (ValueError, TypeError, RecursionError) as error:
            raise self._row.error(f"The arguments of {name!r} are not JSON ({error})", place, "Mend the row") from error
        return written

    def _named_arguments(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Without the nulls that a column of one type for all rows gives to arguments which the tool does not have."""
        if self._tools is None or None not in arguments.values():
            return arguments
        schema = self._tools[name]["function"].get("parameters")
        known = schema.get("properties") if isinstance(schema, dict) else None
        if not isinstance(known, dict):
            return arguments
        return {key: value for key, value in arguments.items() if value is not None or key in known}

    def _decoded(self, text: str, what: str, place: str) -> Any:
        try:
            return STRICT.decode(text)
        except RecursionError as error:
            raise self._row.error(f"{what} nested too deeply", place, "Mend the row") from error
        except ValueError as error:
            raise self._row.error(f"{what} not JSON ({error})", place, "Mend the row") from error


def _declared(row: Row, column: str) -> dict[str, dict[str, Any]] | None:
    """The row's tools by name, as `{"type": "function", "function": {...}}`; none where the row says nothing of tools.

    Nulls in them are left out: tables give every object all keys that any has.
    """
    if not has_column(row, column):
        return None
    value, place = value_of(row, column), f"column {column!r}"
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    do = "Mend the row, or set the format's tools to null"
    try:
        value = STRICT.decode(value) if isinstance(value, str) else value
        if not isinstance(value, list):
            raise row.error(f"A list of tools was expected and {_kind(value)} found", place, do)
        tools = [_without_nulls(STRICT.decode(tool) if isinstance(tool, str) else tool) for tool in value]
        _json(tools)
    except (ValueError, TypeError, RecursionError) as error:
        raise row.error(f"The tools are not JSON ({error})", place, do) from error
    declared = {}
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise row.error("A tool has no name", place, do)
        declared[name] = tool if "function" in tool else {"type": "function", "function": tool}
    return declared


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return found


STRICT = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_object)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _kind(value: Any) -> str:
    return type(value).__name__
