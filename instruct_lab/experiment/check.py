"""Check a config by building it; check every option and every study the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from instruct_lab.config import lab_code
from instruct_lab.config.build import FAILED, Build, build
from instruct_lab.config.classes import TARGET
from instruct_lab.config.compose import Composition, Load, compose, load_config
from instruct_lab.config.options import GROUPS, STUDIES, options, shadowed
from instruct_lab.errors import ConfigError, Problem
from instruct_lab.experiment import rules
from instruct_lab.experiment.experiment import Experiment
from instruct_lab.experiment.settled import settle

SEVERAL_VALUES = (
    "several values are a sweep, and this command makes one run: `instruct-lab train -m` makes a run of each; quote a "
    "text, put a list in [ ]"
)


@dataclasses.dataclass(frozen=True)
class Checked:
    """A config that was composed and built, and every problem with it.

    Args:
        composition: the composed config.
        problems: what refuses the run.
        warnings: problems that do not refuse the run.
        built: the experiment; `None` if there is a problem.
        sweep: the keys `sweep`, `hydra.sweeper` and `hydra.launcher`, built; `None` if there is a problem.
    """

    composition: Composition
    problems: list[Problem]
    warnings: list[Problem] = dataclasses.field(default_factory=list)
    built: Experiment | None = None
    sweep: Any = None

    @property
    def experiment(self) -> Experiment:
        """The experiment.

        Raises:
            ConfigError: there is a problem.
        """
        if self.built is None:
            raise ConfigError(self.problems)
        return self.built

    def or_refuse(self) -> Checked:
        """Itself.

        Raises:
            ConfigError: with all problems, if there are any.
        """
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


def check(overrides: list[str], settings_only: bool = False, load: Load = load_config) -> Checked:
    """Compose, build and compare; every problem is collected, none is raised.

    Args:
        overrides: in Hydra's syntax.
        settings_only: see `instruct_lab.experiment.rules.problems`.
        load: see `instruct_lab.config.compose.compose`.
    """
    try:
        composition = compose(overrides, load)
    except ConfigError as error:
        return Checked(Composition(OmegaConf.create({}), {}, overrides, error.problems), error.problems)
    result, sweep = build(composition.config), build(composition.sweep)
    several = [
        Problem(key=override.key_or_group, value=str(override.input_line).partition("=")[2], reason=SEVERAL_VALUES)
        for override in composition.swept
    ]
    of_lab = [*shadowed(), *lab_code.settings_problems()]
    found = [*of_lab, *composition.problems, *several, *_problems(result, settings_only), *sweep.problems]
    problems = [problem for problem in found if problem.refuses]
    warnings = [problem for problem in found if not problem.refuses]
    if problems:
        return Checked(composition, problems, warnings)
    experiment = _settle(result, composition.config)
    return Checked(composition, problems, warnings, experiment, sweep.root)


def check_config(config: DictConfig) -> Experiment:
    """Build a whole config that is already composed (a run's record).

    Raises:
        ConfigError: it does not build with this version.
    """
    result = build(config)
    problems = [problem for problem in _problems(result) if problem.refuses]
    if problems:
        raise ConfigError(problems)
    return _settle(result, config)


def _settle(result: Build, config: DictConfig) -> Experiment:
    """The experiment with every value that follows from its other choices; they are set in the config too."""
    assert isinstance(result.root, Experiment)
    settled, values = settle(result.root)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return settled


def _problems(result: Build, settings_only: bool = False) -> list[Problem]:
    """Every problem of the components and between them, each once."""
    problems = [*result.problems, *_root_problems(result), *rules.problems(result.built, settings_only)]
    return list(dict.fromkeys(_hashable(problem) for problem in problems))


def _root_problems(result: Build) -> Iterator[Problem]:
    """The whole config has to build an experiment."""
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
            checked = check([f"{group}={option.name}"], settings_only=group != STUDIES)
            required = [problem.key for problem in checked.problems if problem.kind == "missing"]
            problems = [problem for problem in checked.problems if problem.kind == "error"]
            if not option.comment:
                problems.append(Problem(key=f"{group}={option.name}", reason="the file does not open with a comment"))
            results.append(OptionCheck(group, option.name, problems, required))
    return results
