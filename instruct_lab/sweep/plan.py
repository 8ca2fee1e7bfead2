"""From overrides to a planned sweep: what varies, which points there are, and whether each of them can run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.override_parser.types import Override

from instruct_lab.cache import describe
from instruct_lab.config.build import build
from instruct_lab.config.compose import Composition, compose, files_read_once
from instruct_lab.errors import ConfigError, Problem
from instruct_lab.experiment.check import Checked, check, plain
from instruct_lab.experiment.rules.monitoring import monitored_direction
from instruct_lab.records.costs import COSTS
from instruct_lab.records.identity import config_hash
from instruct_lab.sweep.launchers import Launcher
from instruct_lab.sweep.samplers import Sampler
from instruct_lab.sweep.settings import Sweep
from instruct_lab.sweep.space import Dimension, Space, SpaceError, dimension_of_override, parsed, space_of
from instruct_lab.training.names import run_name

MAX_CHECKED = 128
"""Points that are checked beforehand; of a larger grid, and of intervals, a few that hold every choice and bound."""
NOT_IDENTITY = frozenset({"num_points", "max_hours", "refused_points"})
"""Settings that may change while a sweep is stopped."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep that can start.

    Args:
        overrides: what the user typed.
        base: those of it that every run has.
        space: what varies.
        settings: the key `sweep`.
        sampler: chooses points.
        launcher: runs trials.
        num_points: points to try.
        directions: of each metric, `minimize` or `maximize`.
        seed: of the first run of each point.
        name: folder of the runs' records and of the sweep's own.
        runs_path: the folder of all records.
        choices: the options that the base config chose.
        fingerprint: covers what decides which runs are made.
        checked: the configs that were checked beforehand, by their overrides.
    """

    overrides: list[str]
    base: list[str]
    space: Space
    settings: Sweep
    sampler: Sampler
    launcher: Launcher
    num_points: int
    directions: list[str]
    seed: int
    name: str
    runs_path: str
    choices: dict[str, Any]
    fingerprint: str
    checked: dict[tuple[str, ...], Checked] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def warnings(self) -> list[Problem]:
        """The warnings of the configs that were checked, each once."""
        return list(dict.fromkeys(warning for checked in self.checked.values() for warning in checked.warnings))

    def run_overrides(self, values: dict[str, Any], seed: int) -> list[str]:
        """The whole config of one run."""
        seeds = [f"seed={seed}"] if self.settings.seeds > 1 else []
        return [*self.base, *self.space.overrides(values), *seeds]


def plan(overrides: list[str]) -> Plan:
    """Plan a sweep.

    Raises:
        ConfigError: it cannot run; tells every problem, each at the points that have it.
    """
    with files_read_once():
        return _plan(overrides)


def _plan(overrides: list[str]) -> Plan:
    composition = compose(overrides)
    built = build(composition.sweep)
    if built.problems or composition.problems:
        raise ConfigError([*composition.problems, *built.problems])
    settings, sampler = built.root["sweep"], built.root["hydra"]["sweeper"]
    space = _space(settings, composition)
    num_points = _num_points(settings, sampler, space)
    base = [text for text in overrides if not _parsed(text).is_sweep_override()]
    seed = composition.config.get("seed", 0)
    checked = _checked_points(space, base, settings, num_points)
    experiment = next(iter(checked.values())).experiment
    names = [] if len(settings.metrics) == 1 or sampler.takes_several_metrics else [type(sampler).__name__]
    problems = [Problem(key="sweep.metric", reason=f"{name} looks for one metric") for name in names]
    problems += _pruning_problems(settings)
    if problems:
        raise ConfigError(problems)
    identity = {
        "base": config_hash(plain(composition.config)) if not composition.problems else "",
        "space": [dataclasses.asdict(dimension) for dimension in space.dimensions],
        "settings": {
            field.name: describe(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
            if field.name not in NOT_IDENTITY
        },
        "sampler": describe(sampler),
    }
    return Plan(
        overrides=overrides,
        base=base,
        space=space,
        settings=settings,
        sampler=sampler,
        launcher=built.root["hydra"]["launcher"],
        num_points=num_points,
        directions=list(_directions(settings, experiment)),
        seed=seed,
        name=run_name(experiment.name, _varied(composition.choices, space)),
        runs_path=experiment.runs_path,
        choices=composition.choices,
        fingerprint=hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest(),
        checked=checked,
    )


def _parsed(text: str) -> Override:
    try:
        return parsed(text)
    except SpaceError as error:
        raise ConfigError([Problem(key=text.partition("=")[0], value=text, reason=str(error))]) from error


def varies(settings: Sweep, composition: Composition) -> bool:
    """Whether a study is a sweep with these overrides: something varies that they do not fix."""
    return settings.seeds > 1 or bool(_free(settings, composition))


def _free(settings: Sweep, composition: Composition) -> dict[str, Dimension]:
    """What the study lets vary, less what the command line fixes, by key."""
    fixed = {
        override.key_or_group for text in composition.overrides if not (override := _parsed(text)).is_sweep_override()
    }
    return {one.key: one for one in settings.dimensions() if one.key not in fixed}


def _space(settings: Sweep, composition: Composition) -> Space:
    """What the study lets vary, less what the command line fixes, with what the command line lets vary."""
    dimensions = _free(settings, composition)
    try:
        for override in composition.swept:
            dimensions[override.key_or_group] = dimension_of_override(override)
        space = space_of(list(dimensions.values()))
    except SpaceError as error:
        raise ConfigError([Problem(key="sweep.space", reason=str(error))]) from error
    if not space.dimensions and settings.seeds == 1:
        reason = "nothing varies: give a key several values (tuning.r=4,8), set sweep.space, or sweep.seeds"
        raise ConfigError([Problem(key="sweep", reason=reason)])
    if settings.seeds > 1 and any(one.key == "seed" for one in space.dimensions):
        raise ConfigError([Problem(key="sweep.seeds", value=settings.seeds, reason="the key seed varies by itself")])
    return space


def _num_points(settings: Sweep, sampler: Sampler, space: Space) -> int:
    try:
        there = sampler.num_points(space)
    except SpaceError as error:
        raise ConfigError([Problem(key="sweep.space", reason=str(error))]) from error
    if there is None and settings.num_points is None:
        reason = f"{type(sampler).__name__} finds points without end: say how many to try"
        raise ConfigError([Problem(key="sweep.num_points", reason=reason)])
    return min(number for number in (there, settings.num_points) if number is not None)


def _checked_points(space: Space, base: list[str], settings: Sweep, num_points: int) -> dict[tuple[str, ...], Checked]:
    """Check points; those that are right, by their overrides.

    Raises:
        ConfigError: points are wrong, and the settings refuse these; or all are.
    """
    right: dict[tuple[str, ...], Checked] = {}
    at_points: dict[Problem, list[str]] = {}
    count = 0
    for values in _some_points(space, num_points):
        count += 1
        overrides = [*base, *space.overrides(values)]
        checked = check(overrides)
        if not checked.problems:
            right[tuple(overrides)] = checked
        for problem in checked.problems:
            at_points.setdefault(problem, []).append(", ".join(f"{key}={value}" for key, value in values.items()))
    if right and (not at_points or settings.refused_points == "fail"):
        return right
    raise ConfigError(list(_told(at_points, count)))


def _some_points(space: Space, num_points: int) -> Iterable[dict[str, Any]]:
    if any(dimension.is_interval for dimension in space.dimensions):
        return space.corners()
    points = space.grid()
    return points[:num_points] if len(points) <= MAX_CHECKED else space.corners()


def _told(at_points: dict[Problem, list[str]], count: int) -> Iterator[Problem]:
    for problem, points in at_points.items():
        if len(points) == count:
            yield problem
            continue
        more = f" and {len(points) - 1} more points" if len(points) > 1 else ""
        reason = f"{problem.reason.rstrip('.')} (at {points[0]}{more}; sweep.refused_points=fail runs the others)"
        yield dataclasses.replace(problem, reason=reason)


def _pruning_problems(settings: Sweep) -> Iterator[Problem]:
    metric = settings.metrics[0]
    if settings.pruner.prunes and not metric.startswith("val/"):
        reason = "a pruner needs a value that is told during training, which begins with val/"
        yield Problem(key="sweep.metric", value=metric, reason=reason, suggestion="val/loss")


def _directions(settings: Sweep, experiment: Any) -> Iterator[str]:
    given = settings.direction
    for index, metric in enumerate(settings.metrics):
        if isinstance(given, list):
            yield given[index]
        elif given is not None:
            yield given
        else:
            yield direction_of(metric, experiment)


def direction_of(metric: str, experiment: Any) -> str:
    """Whether more or less of a metric is better.

    Raises:
        ConfigError: its name tells nothing.
    """
    mode = "min" if metric in COSTS else monitored_direction(experiment, metric)
    if mode is not None:
        return "minimize" if mode == "min" else "maximize"
    told = ", ".join(["loss", *experiment.active_metrics, *COSTS])
    reason = f"whether more of {metric} is better is not known (known: {told}); set sweep.direction"
    raise ConfigError([Problem(key="sweep.direction", reason=reason)])


def _varied(choices: dict[str, Any], space: Space) -> dict[str, Any]:
    """The choices as they stand in the name of a sweep: what varies is called so."""
    varying = {
        parsed(text).key_or_group
        for dimension in space.dimensions
        for texts in dimension.choices.values()
        for text in texts
    }
    return {group: "sweep" if group in varying else option for group, option in choices.items()}
