"""Types for converting configs of other tools: rules for settings, their results, and the study that is built."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from instruct_lab.config.options import GROUPS
from instruct_lab.config.quoting import parse_or_none, to_hydra

ON = (True, "true", "True", "auto")
"""Values that switch a setting on."""
Kind = Literal["converted", "same", "different", "unknown"]


@dataclasses.dataclass(frozen=True)
class Same:
    """The result for a setting that needs no override in the study.

    Either the setting does not affect results, or this framework always does what it asks for.

    Args:
        note: why nothing has to be set.
    """

    note: str


@dataclasses.dataclass(frozen=True)
class Different:
    """The result for a setting that has no equivalent in this framework.

    Args:
        note: what happens instead.
    """

    note: str


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the report on a conversion, which says how one setting was converted.

    Args:
        key: the setting's name in the other tool.
        value: its value in the other tool.
        kind: `converted` if overrides in the study have the same effect; `same` if no override is needed; `different`
            if there is no equivalent; `unknown` if the other tool has no such setting.
        overrides: the overrides in the study that have the same effect as the setting.
        note: a remark about the setting; if it has no equivalent, what happens instead.
        is_default: whether `value` is the other tool's default, because the tool's config does not set it.
    """

    key: str
    value: Any
    kind: Kind
    overrides: tuple[str, ...] = ()
    note: str = ""
    is_default: bool = False


class Conversion:
    """A conversion in progress: the other tool's config, the study that is being built, and the report.

    Args:
        config: the settings of the other tool, including its defaults for settings that the config does not contain.
        method: the other tool's name of the training method, such as `sft` or `dpo`; empty if the config names none.
        folder: the folder of the config's file, to which paths in the config are relative.
        name: the name of the study.
    """

    def __init__(self, config: Mapping[str, Any], method: str, folder: Path, name: str) -> None:
        self.config, self.method, self.folder, self.name = config, method, folder, name
        self.choices: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.data: dict[str, Any] | None = None
        self.has_held_out = False  # whether the data of the study have rows for validation
        self.rows: list[Row] = []
        self._overrides: list[str] = []

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of one of the other tool's settings; `default` if it is missing, null or an empty text."""
        value = self.config.get(key)
        return default if value is None or value == "" else value

    def choose(self, group: str, option: str) -> None:
        """Choose an option of a group in the study."""
        self.choices[group] = option
        self._overrides.append(f"{group}={option}")

    def set(self, key: str, value: Any) -> None:
        """Set the value of one key in the study."""
        self.values[key] = value
        self._overrides.append(f"{key}={to_hydra(value)}")

    def apply(self, override: str) -> None:
        """Add an override to the study; it has the form in which a user types it on the command line."""
        parsed = parse_or_none(override)
        assert parsed is not None, override
        key, value = parsed.key_or_group.lstrip("+"), parsed.value()
        if key in GROUPS:
            self.choose(key, str(value))
        else:
            self.set(key, value)

    def mention(self, text: str) -> None:
        """Add a text, such as `data.format: Alpaca`, to the overrides in the next row of the report.

        The text describes something that the study sets without an override, such as a field in its data option.
        """
        self._overrides.append(text)

    def take_overrides(self) -> tuple[str, ...]:
        """Return the overrides, and the texts that `mention` added, since the last call of this method."""
        overrides, self._overrides = tuple(self._overrides), []
        return overrides

    def add_row(self, key: str, value: Any, kind: Kind, note: str = "", is_default: bool = False) -> None:
        """Add a row on a setting to the report, with the overrides that were added since the previous row.

        Args:
            key: the setting's name in the other tool.
            value: its value in the other tool.
            kind: how the setting was converted.
            note: a remark about the setting.
            is_default: whether `value` is the other tool's default.
        """
        self.rows.append(Row(key, value, kind, self.take_overrides(), note, is_default))


Result = Same | Different | str | None
"""The result of a rule.

If the rule has added overrides, it is a text with a note, or `None`. If it has not, it is `Same` or `Different`, which
gives the reason.
"""
RuleFunction = Callable[[Conversion, Any], Result]
"""A function that converts a setting: it takes a `Conversion` and the setting's value, and adds overrides."""
Rule = Same | Different | str | RuleFunction
"""How a setting is converted.

A text is a list of overrides, separated by spaces, in which `{value}` stands for the setting's value. A function adds
overrides itself. `Same` or `Different` means that no override is added, and gives the reason.
"""
Themes = Mapping[str, Rule]
"""Rules for groups of settings, keyed by patterns for the settings' names, such as `galore_* apollo_*` (two patterns).

These rules apply to settings that have no rule of their own.
"""


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool whose configs can be converted.

    Args:
        name: the tool's name in messages.
        rules: rules for single settings, keyed by the setting's name.
        themes: rules for groups of settings, keyed by patterns for the settings' names.
        defaults: function that takes a config and its training method, and returns the tool's defaults that differ from
            this framework's.
        signs: names of settings that are typical of the tool, by which its configs are recognised.
        order: names of the settings that are converted first, in this order, since the rules of other settings depend
            on their results.
    """

    name: str
    rules: Mapping[str, Rule]
    themes: Themes
    defaults: Callable[[Mapping[str, Any], str], Mapping[str, Any]]
    signs: frozenset[str]
    order: tuple[str, ...] = ()


def find_rule(tool: Tool, key: str) -> Rule | None:
    """Return a tool's rule for a setting; `None` if the tool has no such setting.

    Args:
        tool: the tool.
        key: name of the setting.
    """
    if key in tool.rules:
        return tool.rules[key]
    for patterns, rule in tool.themes.items():
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns.split()):
            return rule
    return None
