"""Check a config by building it; check every option and every study the same way."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from instruct_lab.config.build import Build, build
from instruct_lab.config.compose import Composition, compose
from instruct_lab.config.options import GROUPS, STUDIES, options, shadowed
from instruct_lab.errors import ConfigError, Problem
from instruct_lab.experiment.rules import combination_problems

SEVERAL = (
    "several values are a sweep, and this command makes one run: `instruct-lab train -m` makes a run of each; quote a "
    "text, put a list in [ ]"
)


@dataclasses.dataclass(frozen=True)
class Checked:
    """A config that was composed and built, and every problem with it."""

    composition: Composition
    experiment: Any  # instruct_lab.experiment.Experiment where there is no problem
    problems: list[Problem]
    sweep: Any = None  # sweep, hydra.sweeper and hydra.launcher, built, where there is no problem

    def or_refuse(self) -> Checked:
        """Itself, or all its problems as one `ConfigError`."""
        if self.problems:
            raise ConfigError(self.problems)
        return self

    @property
    def resolved(self) -> dict[str, Any]:
        """The config as plain containers without interpolations: what the record keeps."""
        return plain(self.composition.config)


def plain(config: DictConfig) -> dict[str, Any]:
    """A config as plain containers, interpolations resolved."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def check(overrides: list[str], with_defaults: bool = False) -> Checked:
    """Compose, build and compare; every problem is collected, none is raised.

    A lab's own classes are importable: the working directory stands on the import path while a lab is there.

    Args:
        overrides: in Hydra's syntax.
        with_defaults: see `combination_problems`.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        composition = compose(overrides)
    except ConfigError as error:
        return Checked(Composition(OmegaConf.create({}), {}, overrides, error.problems), None, error.problems)
    result, sweep = build(composition.config), build(composition.sweep)
    several = [
        Problem(key=override.key_or_group, value=str(override.input_line).partition("=")[2], reason=SEVERAL)
        for override in composition.swept
    ]
    problems = [*shadowed(), *composition.problems, *several, *_ordered(result, with_defaults), *sweep.problems]
    if problems:
        return Checked(composition, None, problems)
    return Checked(composition, result.root, problems, sweep.root)


def check_config(config: DictConfig) -> Any:
    """Build a whole config that is already composed (a run's record).

    Raises:
        ConfigError: it does not build with this version.
    """
    result = build(config)
    problems = _ordered(result)
    if problems:
        raise ConfigError(problems)
    return result.root


def _ordered(result: Build, with_defaults: bool = False) -> list[Problem]:
    problems = [*result.problems, *combination_problems(result.built, with_defaults)]
    return list(dict.fromkeys(_hashable(problem) for problem in problems))


def _hashable(problem: Problem) -> Problem:
    try:
        hash(problem)
    except TypeError:
        return dataclasses.replace(problem, value=str(problem.value))
    return problem


@dataclasses.dataclass(frozen=True)
class OptionCheck:
    """One option or study, composed into the default config and built."""

    group: str
    option: str
    problems: list[Problem]
    required: list[str]  # keys the option leaves for the user to fill


def check_all() -> list[OptionCheck]:
    """Check every option of every group and every study, found recursively.

    A value that an option leaves to the user (`???`) is not a problem here: it is listed as required.
    """
    results = []
    for group in GROUPS:
        for option in options(group):
            checked = check([f"{group}={option.name}"], with_defaults=group != STUDIES)
            required = [p.key for p in checked.problems if p.reason.startswith("a value is required")]
            problems = [p for p in checked.problems if p.key not in required and not _absent_here(p)]
            if not option.comment:
                problems.append(Problem(key=f"{group}={option.name}", reason="the file does not open with a comment"))
            results.append(OptionCheck(group, option.name, problems, required))
    return results


def _absent_here(problem: Problem) -> bool:
    return "which is not installed" in problem.reason or "no GPU here" in problem.reason
