"""Compute Pareto fronts: the configurations that no other one beats in both the primary metric and a cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from instruct_lab.comparison.arms import Arm
from instruct_lab.comparison.scores import RunScores

OF_COSTS = ("training_seconds", "peak_memory_bytes", "trained_parameters")
"""The costs for which a front is computed."""


@dataclasses.dataclass(frozen=True)
class Front:
    """The Pareto front of the primary metric against one cost.

    Args:
        cost: name of the cost.
        costs: each configuration's mean cost over its runs; `None` if a run did not record it.
        arms: ids of the configurations on the front, in order of increasing cost.
    """

    cost: str
    costs: list[float | None]
    arms: list[str]


def fronts(scores: RunScores, arms: Sequence[Arm], costs: Mapping[str, Sequence[float | None]]) -> list[Front]:
    """Compute the front for each cost in which configurations differ.

    Args:
        scores: the runs' scores by the primary metric.
        arms: the configurations.
        costs: each run's cost, keyed by the cost's name; `None` if it was not recorded.
    """
    found = []
    for name in OF_COSTS:
        means = [_mean([costs[name][run] for run in arm.runs]) for arm in arms]
        if len({mean for mean in means if mean is not None}) > 1:
            found.append(Front(name, means, _front(scores, arms, means)))
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _front(scores: RunScores, arms: Sequence[Arm], means: Sequence[float | None]) -> list[str]:
    candidates = [
        (mean, scores.mean(arm.runs).value, arm.id) for arm, mean in zip(arms, means, strict=True) if mean is not None
    ]
    kept = [
        one
        for one in candidates
        if not any(
            (other[0] <= one[0] and scores.better(other[1], one[1]))
            or (other[0] < one[0] and not scores.better(one[1], other[1]))
            for other in candidates
        )
    ]
    return [name for _, _, name in sorted(kept, key=lambda one: one[0])]
