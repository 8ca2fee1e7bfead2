"""Compose and check configs from Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from instruct_lab.api.calls import guarded
from instruct_lab.errors import ConfigError, Problem

if TYPE_CHECKING:
    from instruct_lab.experiment.check import Checked


@dataclasses.dataclass(frozen=True)
class Config:
    """A composed and checked config.

    `config["tuning.r"]` is the value of one key, and `print(config)` shows the whole config with the file or override
    that set each value.

    Args:
        overrides: the overrides with which the config was composed.
        choices: the chosen option of each group.
        values: the resolved config as dictionaries and lists.
        origins: the file or override that set each value, keyed by full key, such as `tuning.r`.
        warnings: reasons why the results may differ from what the user expects.
        text: the config as YAML, with the origin of each value.
    """

    overrides: list[str]
    choices: dict[str, Any]
    values: dict[str, Any]
    origins: dict[str, str]
    warnings: list[Problem]
    text: str = dataclasses.field(repr=False)

    def __getitem__(self, key: str) -> Any:
        value: Any = self.values
        for name in key.split("."):
            if not isinstance(value, dict) or name not in value:
                raise KeyError(key)
            value = value[name]
        return value

    def __str__(self) -> str:
        return self.text


class CheckResult(NamedTuple):
    """The result of `check`: all problems of a config, and its warnings."""

    problems: list[Problem]
    warnings: list[Problem]

    @property
    def is_ok(self) -> bool:
        """Whether the config can run."""
        return not self.problems


def compose(overrides: Sequence[str] = (), *, allow: Sequence[str] = ()) -> Config:
    """Compose and check the config of one run, without loading data or a model.

    Args:
        overrides: overrides such as `"tuning.r=4"`.
        allow: names of permissions to grant, as after `--allow` on the command line.

    Raises:
        ConfigError: the config has problems; the error holds all of them.
    """
    with guarded(overrides, allow) as given:
        from instruct_lab.config.show import render, to_json

        checked = check_overrides(given).or_refuse()
        shown = to_json(checked.composition)
        return Config(
            given,
            checked.composition.choices,
            checked.resolved,
            shown["origins"],
            checked.warnings,
            render(checked.composition),
        )


def check(overrides: Sequence[str] = (), *, allow: Sequence[str] = ()) -> CheckResult:
    """Find all problems of a config or of a sweep, without loading data or a model.

    For a sweep, the configs of all its combinations of values are checked, or of a sample if there are too many.

    Args:
        overrides: overrides such as `"tuning.r=4"`, or `"tuning.r=4,8"` for a sweep.
        allow: names of permissions to grant, as after `--allow` on the command line.
    """
    with guarded(overrides, allow) as given:
        checked = check_overrides(given)
        from instruct_lab.sweep.plan import describes_sweep, plan

        if not checked.composition.swept and not describes_sweep(checked):
            return CheckResult(checked.problems, checked.warnings)
        try:
            return CheckResult([], plan(given).warnings)
        except ConfigError as error:
            return CheckResult(error.problems, [])


def check_overrides(overrides: list[str]) -> Checked:
    """Compose and check a config, and collect its problems instead of raising them."""
    from instruct_lab.experiment.check import check

    return check(overrides)
