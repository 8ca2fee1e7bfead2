"""The search space of a sweep: the values that may vary, which the user writes in Hydra's syntax."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from instruct_lab.config.options import GROUPS, options
from instruct_lab.config.quoting import parse_or_none, to_hydra

POINTS = "points"
"""The key of the dimension whose choices are the points listed in `sweep.points`."""
MAX_POINTS = 100_000
"""Maximum number of values of a dimension and of points of a grid."""


class SpaceError(ValueError):
    """Raised if an entry of a search space is not valid."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """A condition under which a config key varies: the value of another key, `key`, is one of the texts in `labels`."""

    key: str
    labels: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Dimension:
    """A setting that varies: a choice from listed values, or a number from an interval.

    Args:
        key: the config group or full config key that varies; `points` for the choices listed in `sweep.points`, each of
            which can set several keys.
        choices: for each choice, the overrides that it stands for, keyed by a text that names the choice (its label);
            empty for an interval.
        low: lower bound of an interval, included.
        high: upper bound of an interval, included.
        log: whether values are drawn log-uniformly.
        is_integer: whether an interval contains only whole numbers.
        when: conditions under which the setting varies; unless all of them hold, it keeps the base config's value.
    """

    key: str
    choices: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    is_integer: bool = False
    when: tuple[Condition, ...] = ()

    @property
    def is_interval(self) -> bool:
        """Whether a value can be any number between two bounds; otherwise, it is one of a list of choices."""
        return not self.choices

    @functools.cached_property
    def keys(self) -> frozenset[str]:
        """The config groups and full config keys that the dimension sets."""
        if self.key != POINTS:
            return frozenset([self.key])
        return frozenset(parse_override(text).key_or_group for texts in self.choices.values() for text in texts)

    def overrides(self, value: Any) -> tuple[str, ...]:
        """Return the overrides that set this dimension to a value.

        Args:
            value: a number from the interval, or the label of a choice.
        """
        return (f"{self.key}={value!r}",) if self.is_interval else tuple(self.choices[str(value)])

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether all conditions of this dimension hold.

        Args:
            values: the values already chosen for earlier dimensions of the search space, keyed by config key.
        """
        return all(str(values.get(condition.key)) in condition.labels for condition in self.when)

    def from_trial(self, trial: Any) -> Any:
        """Ask an Optuna trial for a value of this dimension."""
        if not self.is_interval:
            return trial.suggest_categorical(self.key, list(self.choices))
        if self.is_integer:
            return trial.suggest_int(self.key, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, log=self.log)


@dataclasses.dataclass(frozen=True)
class Space:
    """The dimensions of a sweep, ordered so that each comes after the dimensions on which its conditions depend."""

    dimensions: tuple[Dimension, ...]

    def values(self, ask: Callable[[Dimension], Any]) -> dict[str, Any]:
        """Choose a point: call `ask` for a value of each dimension, and return the values, keyed by config key.

        A dimension whose conditions do not hold gets no value.

        Args:
            ask: function that chooses a value of the given dimension.
        """
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.holds(values):
                values[dimension.key] = ask(dimension)
        return values

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides, in Hydra's syntax, that set the values of a point.

        Args:
            values: the point's values, keyed by config key.
        """
        return [
            text
            for dimension in self.dimensions
            if dimension.key in values
            for text in dimension.overrides(values[dimension.key])
        ]

    def grid(self) -> list[dict[str, Any]]:
        """List all combinations of values, each only once; the value of the last dimension changes fastest.

        Raises:
            SpaceError: a dimension is an interval, or there are more than `MAX_POINTS` combinations.
        """
        return self._grid

    @functools.cached_property
    def _grid(self) -> list[dict[str, Any]]:
        for dimension in self.dimensions:
            if dimension.is_interval:
                raise SpaceError(
                    f"{dimension.key} is an interval, which has no grid: list values, or choose another hydra/sweeper"
                )
        count = math.prod(len(dimension.choices) for dimension in self.dimensions)
        if count > MAX_POINTS:
            what = f"the grid has {count:,} points, more than {MAX_POINTS:,}"
            raise SpaceError(f"{what}: list fewer values, or choose hydra/sweeper=random with sweep.num_points")
        points: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
        for labels in itertools.product(*(dimension.choices for dimension in self.dimensions)):
            chosen = dict(zip((dimension.key for dimension in self.dimensions), labels, strict=True))
            point = self.values(lambda dimension, chosen=chosen: chosen[dimension.key])  # type: ignore[misc]
            points.setdefault(tuple(point.items()), point)
        return list(points.values())


def dimension_of(key: str, entry: Any) -> Dimension:
    """Create a dimension from one entry of `sweep.space`.

    Args:
        key: the config group or full config key that varies.
        entry: one of: a text in Hydra's syntax (`4,8,16`, `choice(a, b)`, `range(1, 9, 2)`, `interval(0, 1)`,
            `tag(log, interval(1e-5, 1e-3))`, `glob(lora*)`); a list of values; a mapping with the keys `values` (such a
            text or list) and `when` (conditions, as a text or list of texts such as `tuning=lora,dora`).

    Raises:
        SpaceError: the entry is none of these.
    """
    when: tuple[Condition, ...] = ()
    if isinstance(entry, Mapping):
        unknown = set(entry) - {"values", "when"}
        if unknown or "values" not in entry:
            raise SpaceError(f"{key}: a mapping here has the keys values and when, not {', '.join(map(str, entry))}")
        when, entry = tuple(_conditions(key, entry.get("when"))), entry["values"]
    if isinstance(entry, list):
        entry = ",".join(to_hydra(value) for value in entry)
    override = parse_override(f"{key}={entry}")
    return dataclasses.replace(dimension_of_override(override), when=when)


def parse_override(text: str) -> Override:
    """Parse one override in Hydra's syntax.

    Raises:
        SpaceError: the text is not an override.
    """
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise SpaceError(f"{text}: {str(error).splitlines()[0]}") from error


def dimension_of_override(override: Override) -> Dimension:
    """Convert an override such as `tuning.r=4,8` to a dimension; a single value gives a dimension with one choice.

    Raises:
        SpaceError: the override has no values, or lets Hydra shuffle them, which gives an order that cannot be
            reproduced.
    """
    key, value = override.key_or_group, override.value()
    if isinstance(value, IntervalSweep):
        return _interval(key, value)
    if getattr(value, "shuffle", False):
        raise SpaceError(f"{key}: shuffle draws an order that no seed reproduces; choose hydra/sweeper=random")
    if isinstance(value, Glob):
        labels = _matching_options(key, value)
    elif isinstance(value, ChoiceSweep | RangeSweep):
        if isinstance(value, RangeSweep) and _num_values(value) > MAX_POINTS:
            raise SpaceError(f"{key}: the range has more than {MAX_POINTS:,} values; interval(...) has any number")
        labels = [_without_escaped_colons(key, label) for label in override.sweep_string_iterator()]
    else:
        labels = [str(override.input_line).partition("=")[2]]
    if not labels:
        raise SpaceError(f"{key}: no value is given")
    label, count = collections.Counter(labels).most_common(1)[0]
    if count > 1:
        raise SpaceError(f"{key}: the value {label} is given twice")
    return Dimension(key, {label: (f"{key}={label}",) for label in labels})


def _without_escaped_colons(key: str, label: str) -> str:
    """Remove the backslashes that Hydra adds before colons in a value, so that the value is what the user typed.

    For example, `path\\:rows.jsonl` becomes `path:rows.jsonl`. The value is returned unchanged if Hydra would parse it
    differently without the backslashes.
    """
    plain = label.replace("\\:", ":")
    if plain == label:
        return label
    overrides = [parse_or_none(f"{key}={text}") for text in (label, plain)]
    values = [None if one is None or one.is_sweep_override() else one.value() for one in overrides]
    return plain if values[0] == values[1] and values[1] is not None else label


def _num_values(value: RangeSweep) -> float:
    assert value.start is not None
    assert value.stop is not None
    return abs((value.stop - value.start) / value.step) if value.step else math.inf


def _interval(key: str, value: IntervalSweep) -> Dimension:
    assert value.start is not None
    assert value.end is not None
    unknown = value.tags - {"log"}
    if unknown:
        raise SpaceError(f"{key}: the tag {min(unknown)} is not known (known: log)")
    log = "log" in value.tags
    if not value.start < value.end:
        raise SpaceError(f"{key}: the end of the interval is not above its start")
    if log and value.start <= 0:
        raise SpaceError(f"{key}: a logarithmic interval has to start above 0")
    is_integer = isinstance(value.start, int) and isinstance(value.end, int)
    return Dimension(key, low=value.start, high=value.end, log=log, is_integer=is_integer)


def _matching_options(key: str, glob: Glob) -> list[str]:
    if key not in GROUPS:
        raise SpaceError(f"{key}: glob selects options of a group, and {key} is not a group")
    return list(glob.filter([option.name for option in options(key)]))


def _conditions(key: str, when: Any) -> Iterator[Condition]:
    for text in [when] if isinstance(when, str) else when or []:
        override = parse_override(str(text))
        yield Condition(override.key_or_group, frozenset(dimension_of_override(override).choices))


def points_dimension(points: Sequence[str | Sequence[str]]) -> Dimension:
    """Create a dimension whose choices are the entries of `sweep.points`.

    Args:
        points: the points; each is one override, or a list of overrides that are set together.

    Raises:
        SpaceError: a text is not an override with a single value, or a point is given twice.
    """
    choices: dict[str, tuple[str, ...]] = {}
    for point in points:
        texts = tuple([point] if isinstance(point, str) else point)
        for text in texts:
            if parse_override(text).is_sweep_override():
                raise SpaceError(f"{text}: a point has one value for each key")
        label = " ".join(texts)
        if label in choices:
            raise SpaceError(f"the point {label} is given twice")
        choices[label] = texts
    return Dimension(POINTS, choices)


def space_of(dimensions: Sequence[Dimension]) -> Space:
    """Create a search space of these dimensions.

    Raises:
        SpaceError: a condition of a dimension depends on a config key that no earlier dimension varies, or on a value
            that is not among this key's choices; or two dimensions set the same key.
    """
    known: dict[str, Dimension] = {}
    for dimension in dimensions:
        for condition in dimension.when:
            if condition.key not in known:
                raise SpaceError(f"{dimension.key} depends on {condition.key}, which does not vary, or only after it")
            wrong = condition.labels - set(known[condition.key].choices)
            if wrong:
                raise SpaceError(
                    f"{dimension.key} depends on {condition.key}={min(wrong)}, which is not one of its values"
                )
        known[dimension.key] = dimension
    set_by: dict[str, str] = {}
    for dimension in dimensions:
        for key in sorted(dimension.keys):
            if key in set_by:
                raise SpaceError(f"{key} is set by {set_by[key]} and by {dimension.key}")
            set_by[key] = dimension.key
    return Space(tuple(dimensions))
