"""Compute Pareto fronts of the primary metric against costs.

A configuration is on the front unless another one is at least as good in both the metric and the cost, and better in
one of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from instruct_lab.comparison.arms import Arm
from instruct_lab.comparison.scores import RunScores

OF_COSTS = ("training_seconds", "peak_memory_bytes", "trained_parameters")
"""The costs for which a Pareto front is computed."""


@dataclasses.dataclass(frozen=True)
class Front:
    """The Pareto front of the primary metric against one cost.

    Args:
        cost: name of the cost.
        costs: each configuration's cost, as the mean over its runs; `None` if one of its runs did not record the cost.
        arms: ids of the configurations on the front, in order of increasing cost.
    """

    cost: str
    costs: list[float | None]
    arms: list[str]


def fronts(scores: RunScores, arms: Sequence[Arm], costs: Mapping[str, Sequence[float | None]]) -> list[Front]:
    """Compute the Pareto front of the primary metric against each cost that differs between configurations.

    The costs are the training time, the peak memory and the number of trained parameters (`OF_COSTS`).

    Args:
        scores: the runs' scores by the primary metric.
        arms: the configurations; a configuration is a set of runs that differ only in the seed.
        costs: for each cost, the cost of each run; `None` if the run did not record it.
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
