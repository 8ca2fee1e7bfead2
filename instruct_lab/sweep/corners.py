"""Choose a few points of a large search space, to check them before the sweep starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, TypeVar

from instruct_lab.config.options import GROUPS
from instruct_lab.sweep.space import Dimension, Space

Item = TypeVar("Item")
MAX_SAMPLED = 32
"""Maximum number of choices that are taken from a dimension at equal distances in its list."""
MAX_COMBINATIONS = 128
"""Maximum number of combinations of options of config groups; if there are more, not all combinations are checked."""


def corners(space: Space) -> Iterator[dict[str, Any]]:
    """Yield a few points (combinations of values) of a search space.

    Each value that `representatives` selects for a varied key occurs in at least one of the points. If the sweep varies
    options of config groups, each combination of these options also occurs in a point, unless there are more than
    `MAX_COMBINATIONS` combinations.
    """
    values = {dimension.key: representatives(dimension) for dimension in space.dimensions}
    options = {key: found for key, found in values.items() if key in GROUPS}
    if math.prod(map(len, options.values())) > MAX_COMBINATIONS:
        options = {}
    combinations = [dict(zip(options, labels, strict=True)) for labels in itertools.product(*options.values())]
    others = {key: found for key, found in values.items() if key not in options}
    for index in range(max(len(combinations), *map(len, others.values()), 0) if values else 0):
        point = combinations[index % len(combinations)] | {
            key: found[index % len(found)] for key, found in others.items()
        }
        yield space.values(lambda dimension, point=point: point[dimension.key])  # type: ignore[misc]
    for dimension in space.dimensions:  # choices that exist only if a condition holds
        for label in values[dimension.key] if dimension.when else ():
            fixed = {condition.key: min(condition.labels) for condition in dimension.when} | {dimension.key: label}
            yield space.values(lambda one, fixed=fixed: fixed.get(one.key, values[one.key][0]))  # type: ignore[misc]


def representatives(dimension: Dimension) -> list[Any]:
    """Return the values of a dimension (a varied key) to check: both bounds of an interval, or some or all choices.

    All choices are returned if they are options of a config group, or at most `MAX_SAMPLED`. Otherwise a sample is
    returned: `MAX_SAMPLED` choices at equal distances in the list, the smallest and the largest number, and one choice
    of each type (such as number or list). If choices are lists of overrides, some of which choose options of config
    groups (such as `tuning=lora`), the sample has a choice for each such option.
    """
    if dimension.is_interval:
        return [int(end) if dimension.is_integer else end for end in (dimension.low, dimension.high)]
    labels = list(dimension.choices)
    if len(labels) <= MAX_SAMPLED or dimension.key in GROUPS:
        return labels
    chosen = at_equal_distances(labels, MAX_SAMPLED)
    kinds = {_kind_of(label): label for label in labels}
    numbers = [label for label in labels if _kind_of(label) == "number"]
    if numbers:
        chosen += [min(numbers, key=float), max(numbers, key=float)]
    options = {text: label for label, texts in dimension.choices.items() for text in texts if _sets_option(text)}
    return list(dict.fromkeys([*chosen, *kinds.values(), *options.values()]))


def at_equal_distances(items: list[Item], count: int) -> list[Item]:
    """Return at most `count` items at equal distances in the list, beginning with the first and ending with the last.

    If `count` is 1, this is the first item.
    """
    if len(items) <= count:
        return items
    return [items[index * (len(items) - 1) // max(1, count - 1)] for index in range(count)]


def _kind_of(label: str) -> str:
    """Return a name for the type of a value that is written in Hydra's syntax.

    The name is `number`, `not finite`, `text`, `[` for a list or `{` for a mapping. Each of the constants `true`,
    `false` and `null` is its own type.
    """
    try:
        return "number" if math.isfinite(float(label)) else "not finite"
    except ValueError:
        return label if label.casefold() in ("true", "false", "null") else label[:1] if label[:1] in "[{" else "text"


def _sets_option(text: str) -> bool:
    return text.lstrip("+").partition("=")[0] in GROUPS
