"""Check a config, or all options and studies, by building the components."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, OmegaConf

from instruct_lab.config import lab_code, permissions
from instruct_lab.config.build import FAILED, Build, build
from instruct_lab.config.classes import TARGET
from instruct_lab.config.compose import Composition, Load, compose
from instruct_lab.config.environment_values import exposures, remember_written, to_plain_config
from instruct_lab.config.linked_fields import settle_linked_fields
from instruct_lab.config.options import GROUPS, STUDIES, options, shadowed
from instruct_lab.config.quoting import parse_or_none, quote_for_shell, quote_value
from instruct_lab.config.removed_entries import unused_removals
from instruct_lab.config.shared_files import load_config
from instruct_lab.errors import ConfigError, Problem
from instruct_lab.experiment import rules
from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.other_tools import add_hints
from instruct_lab.experiment.settled import settle


@dataclasses.dataclass(frozen=True)
class Checked:
    """A composed and built config, with all its problems.

    Args:
        composition: the composed config.
        problems: problems that prevent the run.
        warnings: problems that do not prevent the run.
        built: the experiment; `None` if `problems` is not empty.
        sweep: the components of `sweep`, `hydra.sweeper` and `hydra.launcher`; `None` if `problems` is not empty.
    """

    composition: Composition
    problems: list[Problem]
    warnings: list[Problem] = dataclasses.field(default_factory=list)
    built: Experiment | None = None
    sweep: Any = None

    @property
    def experiment(self) -> Experiment:
        """The built experiment.

        Raises:
            ConfigError: the config has problems.
        """
        if self.built is None:
            raise ConfigError(self.problems)
        return self.built

    def or_refuse(self) -> Checked:
        """Return this object if the config has no problems, else raise an error.

        Raises:
            ConfigError: the config has problems; the error holds all of them.
        """
        if self.problems:
            raise ConfigError(self.problems)
        return self

    @property
    def resolved(self) -> dict[str, Any]:
        """The config as dictionaries and lists, as in a run's record: interpolations are resolved, secrets left out."""
        return to_plain_config(self.composition.config)


def check(
    overrides: list[str], settings_only: bool = False, load: Load = load_config, is_for_another_machine: bool = False
) -> Checked:
    """Compose a config, build its components, and check how they combine; problems are collected, not raised.

    Args:
        overrides: overrides in Hydra's syntax.
        settings_only: whether to leave out the rules on which options can be combined (`rules.COMBINATION_RULES`).
        load: function that composes a config from overrides; a sweep passes one that shares work between its trials.
        is_for_another_machine: whether to leave out problems of this machine, such as a missing GPU or package.
    """
    try:
        composition = settle_linked_fields(compose(overrides, load))
    except ConfigError as error:
        return Checked(Composition(OmegaConf.create({}), {}, overrides, error.problems), error.problems)
    for config in (composition.config, composition.sweep):
        remember_written(config)
    result, sweep = build(composition.config), build(composition.sweep)
    unused = [*composition.problems, *map(_several_values, composition.swept)]
    left_out = {problem.key for problem in unused} - {override.key_or_group for override in composition.applied}
    of_config = [
        problem for problem in _problems(result, composition.config, settings_only) if problem.key not in left_out
    ]
    renamed = {problem.key for problem in of_config if problem.kind == "unknown_key" and problem.suggestion}
    unused = [problem for problem in unused if problem.key not in renamed]
    of_config += rules.training_problems(result.built)
    removals = [*unused_removals(composition, load)]
    of_lab = [*shadowed(), *lab_code.settings_problems()]
    found = [*of_lab, *add_hints(unused), *of_config, *removals, *add_hints(sweep.problems)]
    if is_for_another_machine:
        found = [problem for problem in found if problem.kind != "unavailable_here"]
    problems = [problem for problem in found if problem.refuses]
    warnings = [problem for problem in found if not problem.refuses]
    if problems:
        return Checked(composition, problems, warnings)
    experiment, derived = _settle(result, composition.config)
    composition = dataclasses.replace(composition, derived={**composition.derived, **derived})
    return Checked(composition, problems, warnings, experiment, sweep.root)


def _several_values(override: Override) -> Problem:
    """Return the problem to report for an override with several values in a command that makes only one run."""
    key, _, value = str(override.input_line).lstrip("+").partition("=")
    kinds = {"a text": f"{key}={quote_value(value)}", "a list": f"{key}=[{value}]"}
    if not isinstance(override.value(), ChoiceSweep):
        kinds = {}
    elif key in GROUPS:
        del kinds["a text"]
    usable = [f"{quote_for_shell(text)} if {kind} is meant" for kind, text in kinds.items() if parse_or_none(text)]
    reason = "several values make a sweep, but this command makes one run: `instruct-lab train -m` runs each value"
    return Problem(key=override.key_or_group, value=value, reason="; or type ".join([reason, *usable]))


def check_config(config: DictConfig, runs_path: Path | None = None, unused: Collection[str] = ()) -> Experiment:
    """Build a whole config that is already composed, such as the config in a run record.

    Args:
        config: the config.
        runs_path: a folder of run records that the user has named. The config may then write files below it too.
        unused: top-level keys of components that will not be used: their fields are checked, but not, for example,
            whether their files exist.

    Raises:
        ConfigError: the config has problems, for example because an older version of instruct_lab wrote it.
    """
    remember_written(config)
    names = [] if runs_path is None else [permissions.within(runs_path)]
    with permissions.allow(*names):
        result = build(config, unused)
    problems = [problem for problem in _problems(result, config) if problem.refuses]
    if problems:
        raise ConfigError(problems)
    return _settle(result, config)[0]


def _settle(result: Build, config: DictConfig) -> tuple[Experiment, dict[str, str]]:
    """Set the values that follow from the config's other values or from the machine, such as a null learning rate.

    They are set in the config itself and in a copy of the experiment.

    Returns:
        The copy of the experiment, and a text for each of the values that says what it follows from, keyed by the
        value's full key.
    """
    assert isinstance(result.root, Experiment)
    settled, values = settle(result.root)
    for key, derived in values.items():
        OmegaConf.update(config, key, derived.value, force_add=True)
    return settled, {key: derived.origin for key, derived in values.items()}


def _problems(result: Build, config: DictConfig, settings_only: bool = False) -> list[Problem]:
    """Return the problems of single components and of their combination, without duplicates."""
    problems = [*add_hints(result.problems), *_root_problems(result), *exposures(config)]
    problems += rules.problems(result.built, settings_only)
    return list(dict.fromkeys(_hashable(problem) for problem in problems))


def _root_problems(result: Build) -> Iterator[Problem]:
    """Report a config whose top-level `_target_` is missing or names a class other than `Experiment`."""
    if result.root is not FAILED and not isinstance(result.root, Experiment):
        target = f"{Experiment.__module__.rpartition('.')[0]}.{Experiment.__name__}"
        found = type(result.root).__name__
        yield Problem(key=TARGET, value=found, reason=f"the config builds a {found}, not a run", suggestion=target)


def _hashable(problem: Problem) -> Problem:
    try:
        hash(problem)
    except TypeError:
        return dataclasses.replace(problem, value=str(problem.value))
    return problem


@dataclasses.dataclass(frozen=True)
class OptionCheck:
    """The result of checking one option or study in an otherwise unchanged default config."""

    group: str
    option: str
    problems: list[Problem]
    required: list[str]  # keys that the user must set


def check_all() -> list[OptionCheck]:
    """Check every option of every group, and every study.

    A value that the user must set (`???`) is not counted as a problem; its key is listed in `required`.
    """
    results = []
    for group in GROUPS:
        for option in options(group):
            checked = check([f"{group}={option.name}"], settings_only=group != STUDIES)
            required = [problem.key for problem in checked.problems if problem.kind == "missing"]
            wrong = ("error", "unknown_key", "unknown_option")
            problems = [problem for problem in checked.problems if problem.kind in wrong]
            if not option.comment:
                problems.append(Problem(key=f"{group}={option.name}", reason="the file does not open with a comment"))
            results.append(OptionCheck(group, option.name, problems, required))
    return results
