"""What each choice of a sweep did: means over all runs that made it, and how much of the metric's variance it explains.

A mean over runs is fair between the values of a choice only where the other choices are the same on both sides, as in a
grid; where they are not, the effect says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec

from instruct_lab.comparison.arms import Factor
from instruct_lab.comparison.scores import Estimate, RunScores

MAX_LEVELS = 8
"""Values of a choice that are told one by one; of more numbers than that, as intervals draw, as many ranges."""
NUM_RANGES = 4
MIN_RUNS = 4
"""Runs below which nothing is said of importance."""
IMPORTANCE_SEED = 0


@dataclasses.dataclass(frozen=True)
class Level:
    """One value of a choice.

    Args:
        value: as text.
        runs: how many made it.
        mean: of the metric over them.
        difference: from the best value's mean; none for the best itself.
        probability: of such a difference where there is none, corrected for all pairs of values.
    """

    value: str
    runs: int
    mean: Estimate
    difference: Estimate | None
    probability: float | None


@dataclasses.dataclass(frozen=True)
class Effect:
    """One choice.

    Args:
        key: the group or the full key.
        levels: its values, in the order of the runs.
        is_balanced: whether the other choices are the same for every value.
        importance: its share of the metric's variance over the runs (fANOVA: Hutter et al., 2014); none where it cannot
            be told: few runs, or scikit-learn is not installed.
    """

    key: str
    levels: list[Level]
    is_balanced: bool
    importance: float | None


def effects(scores: RunScores, factors: Sequence[Factor]) -> list[Effect]:
    """The effect of each choice in which the runs differ; without those that give every run another value.

    Where the runs differ in one choice alone, it is what the arms tell already, and there is none.
    """
    if len(factors) < 2:
        return []
    importances = _importances(scores, factors)
    told = []
    for place, factor in enumerate(factors):
        values = _in_ranges(factor.values)
        levels = list(dict.fromkeys(values))
        if not 1 < len(levels) <= MAX_LEVELS or len(levels) == len(values):
            continue
        others = [one for other, one in enumerate(factors) if other != place]
        told.append(
            Effect(
                factor.key,
                _levels(scores, values, levels),
                _is_balanced(values, levels, others),
                importances.get(factor.key),
            )
        )
    return told


def _levels(scores: RunScores, values: Sequence[str], levels: Sequence[str]) -> list[Level]:
    groups = [[run for run, value in enumerate(values) if value == level] for level in levels]
    best = scores.best(groups)
    differences = iter(scores.differences(groups, best))
    told = []
    for place, (level, group) in enumerate(zip(levels, groups, strict=True)):
        difference, probability = (None, None) if place == best else next(differences)
        told.append(Level(level, len(group), scores.mean(group), difference, probability))
    return told


def _is_balanced(values: Sequence[str], levels: Sequence[str], others: Sequence[Factor]) -> bool:
    """Whether the runs of every value make the other choices equally often."""
    shares = []
    for level in levels:
        runs = [run for run, value in enumerate(values) if value == level]
        counts = Counter(tuple(other.values[run] for other in others) for run in runs)
        shares.append({key: count / len(runs) for key, count in counts.items()})
    return all(share == shares[0] for share in shares)


def _in_ranges(values: Sequence[str]) -> list[str]:
    """Many different numbers as a few ranges of equally many runs; anything else as it is."""
    numbers = _numbers(values)
    if numbers is None or len(set(numbers)) <= MAX_LEVELS:
        return list(values)
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    names = [""] * len(numbers)
    for part in range(NUM_RANGES):
        start, end = (len(order) * edge // NUM_RANGES for edge in (part, part + 1))
        inside = order[start:end]
        for run in inside:
            names[run] = f"{numbers[inside[0]]:.3g} to {numbers[inside[-1]]:.3g}"
    return names


def _numbers(values: Sequence[str]) -> list[float] | None:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _importances(scores: RunScores, factors: Sequence[Factor]) -> dict[str, float]:
    """By Optuna's fANOVA over the runs' own values; nothing where there is too little to tell from."""
    if len(scores.values) < MIN_RUNS or not all(map(math.isfinite, scores.values)):
        return {}
    if len(set(scores.values)) == 1:
        return {}
    if not can_tell_importance():
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions, columns = {}, {}
    for factor in factors:
        numbers = _numbers(factor.values)
        distributions[factor.key] = _distribution(factor, numbers)
        columns[factor.key] = list(factor.values) if numbers is None else numbers
    for run, value in enumerate(scores.values):
        params = {key: column[run] for key, column in columns.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=IMPORTANCE_SEED)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def can_tell_importance() -> bool:
    """Whether what Optuna's fANOVA stands on is installed."""
    return find_spec("sklearn") is not None


def _distribution(factor: Factor, numbers: Sequence[float] | None) -> object:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if numbers is None:
        return CategoricalDistribution(list(dict.fromkeys(factor.values)))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low > 10)
