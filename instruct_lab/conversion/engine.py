"""Apply the rules of a tool to every setting of a config."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion.reading import TOOLS, Source
from instruct_lab.conversion.rules import Conversion, Different, Row, Rule, Same, Tool
from instruct_lab.experiment.other_tools import with_value

OFF = (False, 0, "none", "no", "off", "None")


@dataclasses.dataclass(frozen=True)
class Converted:
    """A converted config.

    Args:
        source: the config that was read.
        choices: the chosen option of each group.
        values: the values of single keys.
        data: the content of the data option; `None` if the config names no data.
        rows: what became of each setting.
    """

    source: Source
    choices: Mapping[str, str]
    values: Mapping[str, Any]
    data: Mapping[str, Any] | None
    rows: tuple[Row, ...]


def convert(source: Source) -> Converted:
    """Convert a config; every one of its settings has a row in the result."""
    tool = TOOLS[source.tool]
    defaults = {
        key: value for key, value in tool.defaults(source.config, source.method).items() if key not in source.config
    }
    state = Conversion({**source.config, **defaults}, source.method, source.folder, source.name)
    settings = state.config
    for key in [*(key for key in tool.order if key in settings), *(key for key in settings if key not in tool.order)]:
        _apply(state, tool, key, settings[key], is_default=key in defaults)
    tool.finish(state)
    values = {"name": state.name, **state.values}
    return Converted(source, state.choices, values, state.data, tuple(state.rows))


def find_rule(tool: Tool, key: str) -> Rule | None:
    """Return the rule of a setting; `None` if the tool does not have it."""
    if key in tool.rules:
        return tool.rules[key]
    for patterns, rule in tool.themes.items():
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns.split()):
            return rule
    return None


def _apply(state: Conversion, tool: Tool, key: str, value: Any, is_default: bool) -> None:
    rule = find_rule(tool, key)
    if rule is None:
        others = [other.name for other in TOOLS.values() if other is not tool and find_rule(other, key) is not None]
        known = f"a key of {' and '.join(others)}, not of {tool.name}" if others else "not known to any of the three"
        state.add_row(key, value, "unknown", f"{known}: nothing is set")
        return
    result: Any = rule
    if value is None or value == "":
        result = Same("empty: as if it were left out")
    elif isinstance(rule, Different) and (value in OFF or value in ([], {})):
        result = Same("switched off, as here")
    elif isinstance(rule, str):
        for override in rule.split():
            state.apply(with_value(override, value))
        result = None
    elif callable(rule):
        result = rule(state, value)
    if isinstance(result, Same | Different):
        kind: Any = "same" if isinstance(result, Same) else "different"
        state.add_row(key, value, kind, result.note, is_default)
    else:
        state.add_row(key, value, "converted", result or "", is_default)
