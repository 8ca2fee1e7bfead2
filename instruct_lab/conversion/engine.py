"""Convert a config of another tool to a study by applying a rule to each of its settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from instruct_lab.conversion import models
from instruct_lab.conversion.reading import TOOLS, Source
from instruct_lab.conversion.rules import Conversion, Different, Row, Same, Tool, find_rule
from instruct_lab.experiment.matrix import component_of
from instruct_lab.experiment.other_tools import with_value

COMPONENTS = ("objective", "tuning", "optimizer", "lr_scheduler")
"""The groups whose options have different fields, so that the chosen option may lack a field that the study sets."""
OFF = (False, 0, "none", "no", "off", "None")


@dataclasses.dataclass(frozen=True)
class Converted:
    """The result of converting a config of another tool.

    Args:
        source: the other tool's config.
        choices: the options that the study chooses, keyed by group.
        values: the values that the study sets, keyed by full key.
        data: the content of the study's own data option; `None` if the config names no data.
        rows: the rows of the report; each says how one setting was converted.
    """

    source: Source
    choices: Mapping[str, str]
    values: Mapping[str, Any]
    data: Mapping[str, Any] | None
    rows: tuple[Row, ...]


def convert(source: Source) -> Converted:
    """Convert a config of another tool to a study; the result reports on each of the config's settings."""
    tool = TOOLS[source.tool]
    given = {key: value for key, value in source.config.items() if value is not None and value != ""}
    defaults = {key: value for key, value in tool.defaults(given, source.method).items() if key not in given}
    state = Conversion({**source.config, **defaults}, source.method, source.folder, source.name)
    settings = state.config
    for key in [*(key for key in tool.order if key in settings), *(key for key in settings if key not in tool.order)]:
        _apply(state, tool, key, settings[key], is_default=key in defaults)
    models.adapt_for_kto(state)
    _drop_missing_fields(state)
    state.choices.setdefault("tracker", "none")
    if state.data is not None:
        state.choices["data"] = state.name
    else:
        note = "no data set is read, so the study trains on the default data: set data=path:FILE or data=hub:OWNER/NAME"
        state.add_row("(data)", None, "different", note)
    values = {"name": state.name, **state.values}
    return Converted(source, state.choices, values, state.data, tuple(state.rows))


def _drop_missing_fields(state: Conversion) -> None:
    """Remove the study's values that belong to no field of a chosen component, and report this.

    For example, `optimizer.betas` is removed if the study chooses Adafactor, which has no such field.
    """
    for group in [group for group in COMPONENTS if group in state.choices]:
        option = state.choices[group]
        keys = [key for key in state.values if key.startswith(f"{group}.")]
        component = component_of(group, option) if keys else None
        for key in (key for key in keys if not hasattr(component, key.split(".")[1])):
            del state.values[key]
            state.rows[:] = [_without(row, key, f"{group}={option} has no such setting") for row in state.rows]


def _without(row: Row, key: str, note: str) -> Row:
    """Return a copy of a row of the report in which the override that sets a given key is removed.

    If the row then has no override left, the field `kind` of the copy is `different`. A row without an override of this
    key is returned unchanged.

    Args:
        row: the row.
        key: the full key, such as `optimizer.betas`.
        note: the reason for the removal, which is added to the row's note.
    """
    left = tuple(text for text in row.overrides if not text.startswith(f"{key}="))
    if left == row.overrides:
        return row
    return dataclasses.replace(
        row, overrides=left, kind=row.kind if left else "different", note="; ".join(filter(None, [row.note, note]))
    )


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
