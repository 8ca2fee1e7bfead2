"""Plan a sweep from overrides: build the search space and check that its points can run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from instruct_lab.cache import describe
from instruct_lab.config.build import build
from instruct_lab.config.compose import Composition, compose
from instruct_lab.config.environment_values import to_plain_config
from instruct_lab.config.references import quote_reference
from instruct_lab.config.shared_files import SharedFiles
from instruct_lab.errors import ConfigError, Problem
from instruct_lab.experiment.check import Checked, check
from instruct_lab.experiment.other_tools import add_hints
from instruct_lab.records.identity import config_hash
from instruct_lab.sweep.corners import corners
from instruct_lab.sweep.launchers import Launcher
from instruct_lab.sweep.metrics import directions, metric_problems, setting_problems
from instruct_lab.sweep.precision import describe_precision
from instruct_lab.sweep.samplers import Sampler
from instruct_lab.sweep.settings import Sweep
from instruct_lab.sweep.space import MAX_POINTS, Dimension, Space, SpaceError, dimension_of_override, space_of
from instruct_lab.training.names import run_name

MAX_CHECKED = 128
"""Maximum number of points that are all checked before a sweep; if there are more, only a sample (`corners`) is."""
NOT_IDENTITY = frozenset({"num_points", "max_hours", "refused_points"})
"""Settings that may change between stopping and resuming a sweep."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The checked description of a sweep, from which it can be started.

    A point of the sweep is a combination of values for the keys that vary.

    Args:
        overrides: the overrides as typed.
        base: the overrides that all runs share.
        space: the search space.
        settings: the settings under the config key `sweep`.
        sampler: the sampler that chooses points.
        launcher: the launcher that runs trials.
        num_points: number of points to try.
        directions: `minimize` or `maximize`, for each metric.
        seed: seed of the first run of each point.
        name: name of the folder, below `runs_path`, that holds the records of the sweep and of its runs.
        runs_path: the folder of all records.
        choices: the base config's chosen option for each config group.
        fingerprint: SHA-256 of the settings that have to be the same when the sweep is resumed.
        checked: the configs of points that were checked and can run, keyed by their overrides.
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
        """The warnings about the checked configs, each only once."""
        return list(dict.fromkeys(warning for checked in self.checked.values() for warning in checked.warnings))

    def describe(self) -> str:
        """Return a text that says how many runs the sweep has, what varies between them, and what it optimises."""
        varying = ", ".join(dimension.key for dimension in self.space.dimensions) or "seed"
        count = self.num_points * self.settings.seeds
        goals = ", ".join(f"{d} {m}" for m, d in zip(self.settings.metrics, self.directions, strict=True))
        sampled = "" if len(self.checked) == self.num_points else f" ({len(self.checked)} points checked)"
        runs = f"{count} run{'' if count == 1 else 's'}"
        return f"this is a sweep of {runs} over {varying}{sampled}; {type(self.sampler).__name__}, {goals}"

    def run_overrides(self, values: dict[str, Any], seed: int) -> list[str]:
        """Return all overrides of one run.

        Args:
            values: the point's value of each dimension, keyed by the dimension's config key.
            seed: the run's seed; it becomes an override only if the sweep has several seeds.
        """
        seeds = [f"seed={seed}"] if self.settings.seeds > 1 else []
        return [*self.base, *self.space.overrides(values), *seeds]

    def describe_precision(self) -> list[str]:
        """Return sentences that say which differences between runs are too small to measure on the held-out splits."""
        experiment = next(iter(self.checked.values())).experiment
        return list(describe_precision(self.settings, experiment))


def plan(overrides: list[str], is_for_another_machine: bool = False) -> Plan:
    """Plan a sweep: build its search space from overrides, and check the configs of its points.

    Args:
        overrides: the overrides as typed.
        is_for_another_machine: whether to ignore problems that only this machine has, such as a missing GPU.

    Raises:
        ConfigError: the sweep cannot run; the message lists every problem and which points have it.
    """
    files = SharedFiles()
    composition = compose(overrides, files.load)
    built = build(composition.sweep)
    if built.problems or composition.problems:
        raise ConfigError(list(add_hints([*composition.problems, *built.problems])))
    settings, sampler = built.root["sweep"], built.root["hydra"]["sweeper"]
    launcher: Launcher = built.root["hydra"]["launcher"]
    is_for_another_machine = is_for_another_machine or launcher.uses_other_machines
    space = _space(settings, composition)
    num_points = _num_points(settings, sampler, space)
    base = [str(override.input_line) for override in _fixed(composition)]
    if problems := list(setting_problems(settings, sampler)):
        raise ConfigError(problems)
    checked = _check_points(space, base, settings, num_points, files, is_for_another_machine)
    experiment = next(iter(checked.values())).experiment
    return Plan(
        overrides=overrides,
        base=base,
        space=space,
        settings=settings,
        sampler=sampler,
        launcher=launcher,
        num_points=num_points,
        directions=directions(settings, experiment),
        seed=composition.config.get("seed", 0),
        name=run_name(experiment.name, _choices_in_name(composition.choices, space)),
        runs_path=experiment.runs_path,
        choices=composition.choices,
        fingerprint=_fingerprint(composition, space, settings, sampler),
        checked=checked,
    )


def _fingerprint(composition: Composition, space: Space, settings: Sweep, sampler: Sampler) -> str:
    identity = {
        "base": config_hash(to_plain_config(composition.config)),
        "space": [dataclasses.asdict(dimension) for dimension in space.dimensions],
        "settings": {
            field.name: describe(getattr(settings, field.name))
            for field in dataclasses.fields(settings)
            if field.name not in NOT_IDENTITY
        },
        "sampler": describe(sampler),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


def describes_sweep(checked: Checked) -> bool:
    """Whether a config describes a sweep by its settings, without an override that has several values.

    It does if `sweep.seeds` is greater than 1. It also does if `sweep.space` or `sweep.points` varies a config key,
    unless an override sets this key to a single value.
    """
    if checked.sweep is None:
        return False
    settings = checked.sweep["sweep"]
    return settings.seeds > 1 or bool(_study_dimensions(settings, checked.composition))


def _fixed(composition: Composition) -> list[Override]:
    """Return the overrides that set a key to a single value, which is therefore the same in all runs of the sweep."""
    overrides = OverridesParser.create().parse_overrides(list(map(quote_reference, composition.overrides)))
    return [override for override in overrides if not override.is_sweep_override()]


def _study_dimensions(settings: Sweep, composition: Composition) -> dict[str, Dimension]:
    """Return the dimensions (varied config keys) of `sweep.space` and `sweep.points`, keyed by config key.

    Usually a study sets these two settings. Keys that an override sets to a single value are left out.
    """
    fixed = {override.key_or_group for override in _fixed(composition)}
    return {one.key: one for one in settings.dimensions() if one.key not in fixed}


def _space(settings: Sweep, composition: Composition) -> Space:
    """Build the search space from `sweep.space` and from the overrides with several values (`tuning.r=4,8`).

    A key that an override sets to a single value does not vary. Several values in an override replace a dimension of
    `sweep.space` with the same key.

    Raises:
        ConfigError: the search space is not valid, or nothing varies.
    """
    dimensions = _study_dimensions(settings, composition)
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
        reason = "the key seed varies already"
        raise ConfigError([Problem(key="sweep.seeds", value=settings.seeds, reason=reason)])
    return space


def _num_points(settings: Sweep, sampler: Sampler, space: Space) -> int:
    try:
        available = sampler.num_points(space)
    except SpaceError as error:
        raise ConfigError([Problem(key="sweep.space", reason=str(error))]) from error
    if available is None and settings.num_points is None:
        reason = f"{type(sampler).__name__} proposes points without end: say how many to try"
        raise ConfigError([Problem(key="sweep.num_points", reason=reason)])
    return min(number for number in (available, settings.num_points) if number is not None)


# ---- points


def _check_points(
    space: Space,
    base: list[str],
    settings: Sweep,
    num_points: int,
    files: SharedFiles,
    is_for_another_machine: bool,
) -> dict[tuple[str, ...], Checked]:
    """Check the configs of the points before the sweep starts.

    If there are more than `MAX_CHECKED` points, or infinitely many, only a sample of them is checked.

    Returns:
        The configs that can run, keyed by their overrides.

    Raises:
        ConfigError: no point can run, or a point has problems and the setting `sweep.refused_points` is `refuse`.
    """
    passed: dict[tuple[str, ...], Checked] = {}
    at_points: dict[Problem, list[str]] = {}
    count = 0
    for values in _points_to_check(space, num_points):
        count += 1
        overrides, label = [*base, *space.overrides(values)], ", ".join(f"{k}={v}" for k, v in values.items())
        checked = check(overrides, load=files.load, is_for_another_machine=is_for_another_machine)
        problems = list(checked.problems) or list(metric_problems(settings, checked.experiment))
        if not problems:
            passed[tuple(overrides)] = checked
        for problem in problems:
            at_points.setdefault(problem, []).append(label)
    if not passed or (at_points and settings.refused_points == "refuse"):
        raise ConfigError(list(_with_points(at_points, count)))
    return passed


def _points_to_check(space: Space, num_points: int) -> Iterable[dict[str, Any]]:
    has_grid = not any(dimension.is_interval for dimension in space.dimensions)
    if not has_grid or math.prod(len(dimension.choices) for dimension in space.dimensions) > MAX_POINTS:
        return corners(space)
    points = space.grid()
    return points[:num_points] if len(points) <= MAX_CHECKED else corners(space)


def _with_points(at_points: dict[Problem, list[str]], count: int) -> Iterator[Problem]:
    """Yield each problem; if only some points have it, add a hint that names one of these and counts the others.

    Args:
        at_points: for each problem, the points that have it, as texts.
        count: number of checked points.
    """
    for problem, points in at_points.items():
        if len(points) == count:
            yield problem
            continue
        more = f" and {len(points) - 1} more points" if len(points) > 1 else ""
        hint = f"(at {points[0]}{more}; sweep.refused_points=fail runs the others)"
        yield dataclasses.replace(problem, reason=f"{problem.reason.rstrip('.')} {hint}")


def _choices_in_name(choices: dict[str, Any], space: Space) -> dict[str, Any]:
    """Return the options from which the name of the sweep's folder is made.

    If a group has several options in the sweep, its option is replaced by the word `sweep`.
    """
    varying = {key for dimension in space.dimensions for key in dimension.keys}
    return {group: "sweep" if group in varying else option for group, option in choices.items()}
