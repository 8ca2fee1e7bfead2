"""The types of the conversion: rules for the settings of another tool, their results, and the study that is built."""

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
    """A setting that needs no override in the study, because it does not affect results or equals the behaviour here.

    Args:
        note: why nothing has to be set.
    """

    note: str


@dataclasses.dataclass(frozen=True)
class Different:
    """A setting that has no equivalent in this framework.

    Args:
        note: what happens instead.
    """

    note: str


@dataclasses.dataclass(frozen=True)
class Row:
    """The result of converting one setting.

    Args:
        key: the setting's name in the other tool.
        value: its value in the other tool.
        kind: `converted` if overrides in the study have the same effect; `same` if no override is needed; `different`
            if there is no equivalent; `unknown` if the tool has no such setting.
        overrides: the overrides in the study that replace the setting.
        note: remark about the setting, or what happens instead.
        is_default: whether the config does not contain the setting, so that the value is the other tool's default.
    """

    key: str
    value: Any
    kind: Kind
    overrides: tuple[str, ...] = ()
    note: str = ""
    is_default: bool = False


class Conversion:
    """The study that is being built, with the facts about the config that the rules need.

    Args:
        config: the settings of the other tool, including defaults for settings that the config does not contain.
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
        """Return a setting of the other tool; the default if it is missing or empty."""
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
        """Add an override, in the form in which it is typed on the command line, to the study."""
        parsed = parse_or_none(override)
        assert parsed is not None, override
        key, value = parsed.key_or_group.lstrip("+"), parsed.value()
        if key in GROUPS:
            self.choose(key, str(value))
        else:
            self.set(key, value)

    def mention(self, text: str) -> None:
        """List a text, such as `data.format: Alpaca`, among the overrides that replace the current setting.

        The text stands for a part of the study that no override sets.
        """
        self._overrides.append(text)

    def take_overrides(self) -> tuple[str, ...]:
        """Return the overrides and mentioned texts that were added since the last call."""
        overrides, self._overrides = tuple(self._overrides), []
        return overrides

    def add_row(self, key: str, value: Any, kind: Kind, note: str = "", is_default: bool = False) -> None:
        """Add a row that reports how a setting was converted, with the overrides added since the previous row."""
        self.rows.append(Row(key, value, kind, self.take_overrides(), note, is_default))


Result = Same | Different | str | None
"""The result of a rule: a note or `None` if the rule has added overrides, else the reason why it has not."""
RuleFunction = Callable[[Conversion, Any], Result]
"""A function that converts a setting: it takes the study and the setting's value, and adds overrides to the study."""
Rule = Same | Different | str | RuleFunction
"""How a setting is converted: by overrides, in which `{value}` stands for its value, or by a function.

A rule of type `Same` or `Different` adds no override and gives the reason.
"""
Themes = Mapping[str, Rule]
"""Rules for groups of settings, keyed by patterns of the settings' names, separated by spaces (`galore_* apollo_*`).

They apply to settings that have no rule of their own.
"""


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool whose configs can be converted.

    Args:
        name: the tool's name in messages.
        rules: rules keyed by the name of the setting.
        themes: rules for groups of settings.
        defaults: function that takes a config and its training method and returns those defaults of the tool that
            differ from the defaults in this framework.
        signs: names of settings by which a config of the tool is recognised.
        order: names of the settings that are converted first, in this order, since rules of other settings depend on
            their results.
    """

    name: str
    rules: Mapping[str, Rule]
    themes: Themes
    defaults: Callable[[Mapping[str, Any], str], Mapping[str, Any]]
    signs: frozenset[str]
    order: tuple[str, ...] = ()


def find_rule(tool: Tool, key: str) -> Rule | None:
    """Return the rule of a setting; `None` if the tool has no such setting."""
    if key in tool.rules:
        return tool.rules[key]
    for patterns, rule in tool.themes.items():
        if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns.split()):
            return rule
    return None
