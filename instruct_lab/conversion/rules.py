"""The types of the conversion tables: what a setting of another tool becomes, and the study that is built."""

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
    """A setting for which nothing has to be set: it has no effect on results, or asks for the behaviour here.

    Args:
        note: why nothing has to be set.
    """

    note: str


@dataclasses.dataclass(frozen=True)
class Different:
    """A setting that has no equivalent here.

    Args:
        note: what happens instead.
    """

    note: str


@dataclasses.dataclass(frozen=True)
class Row:
    """The result of converting one setting.

    Args:
        key: the key in the other tool.
        value: the value in the other tool.
        kind: `converted` if the study sets the same; `same` if nothing has to be set; `different` if there is no
            equivalent; `unknown` if the tool has no such key.
        overrides: the overrides in the study that stand for the setting.
        note: remark about the setting, or what happens instead.
        is_default: whether the config does not have the key, and the value is the other tool's default.
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
        config: the settings of the other tool, with its defaults for those that are not set.
        method: the training method, in the words of the tool: sft, dpo, ...
        folder: the folder of the file, for paths relative to it.
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
        """Choose an option of a group."""
        self.choices[group] = option
        self._overrides.append(f"{group}={option}")

    def set(self, key: str, value: Any) -> None:
        """Set a single value."""
        self.values[key] = value
        self._overrides.append(f"{key}={to_hydra(value)}")

    def apply(self, override: str) -> None:
        """Apply an override as it is typed on the command line."""
        parsed = parse_or_none(override)
        assert parsed is not None, override
        key, value = parsed.key_or_group.lstrip("+"), parsed.value()
        if key in GROUPS:
            self.choose(key, str(value))
        else:
            self.set(key, value)

    def mention(self, text: str) -> None:
        """Add a text that is not an override to the overrides of the current setting, such as a part of the data."""
        self._overrides.append(text)

    def take_overrides(self) -> tuple[str, ...]:
        """Return the overrides that were set since the last call."""
        overrides, self._overrides = tuple(self._overrides), []
        return overrides

    def add_row(self, key: str, value: Any, kind: Kind, note: str = "", is_default: bool = False) -> None:
        """Report a setting, with everything that was set since the last report."""
        self.rows.append(Row(key, value, kind, self.take_overrides(), note, is_default))


Result = Same | Different | str | None
"""The result of a rule: a note or `None` if the rule has set something, else the reason why it has not."""
RuleFunction = Callable[[Conversion, Any], Result]
"""A rule as a function, which is called with the study and the setting's value and adds values to the study."""
Rule = Same | Different | str | RuleFunction
"""The rule of a setting: overrides, in which `{value}` stands for its value; a reason to set none; or a function."""
Themes = Mapping[str, Rule]
"""Rules by patterns such as `galore_* apollo_*`, for settings that have no rule of their own."""


@dataclasses.dataclass(frozen=True)
class Tool:
    """A tool whose configs can be converted.

    Args:
        name: the tool's name in messages.
        rules: the rule of each setting.
        themes: rules of groups of settings.
        defaults: function that returns, for a config, the defaults of the tool that differ from the defaults here.
        signs: settings by which a config of the tool is recognised.
        order: settings that are converted before the others, since the rules of the others read the choices made by
            these.
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
