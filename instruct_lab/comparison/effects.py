"""Compute how each setting that differs between runs affects a metric.

The effect of a setting consists of the metric's mean over the runs with each value of the setting, and of the
proportion of the metric's variance that the setting explains. In this module, a setting (a config group or key) that
differs between the runs is called a choice. The means for two values of a choice can be compared only if the other
choices have the same distribution for both values, as in a grid. `Effect.is_balanced` says whether this is so.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence

from instruct_lab.comparison.arms import Factor
from instruct_lab.comparison.scores import Estimate, RunScores
from instruct_lab.optional_packages import is_installed

MAX_LEVELS = 8
"""Maximum number of values of a choice that are listed one by one; a larger set of numbers is grouped into ranges."""
NUM_RANGES = 4
MIN_RUNS = 4
"""Minimum number of runs for which `Effect.importance` is computed."""
IMPORTANCE_SEED = 0


@dataclasses.dataclass(frozen=True)
class Level:
    """One value of a choice (a setting that differs between runs), and the metric's mean over the runs with this value.

    Args:
        value: the value, as text.
        runs: number of runs with this value.
        mean: mean of the metric over these runs, with its interval.
        difference: `mean` minus the best mean of all values of the choice; `None` for the value with the best mean.
        probability: p-value of the difference, corrected for the number of pairs of values; `None` for the value with
            the best mean.
    """

    value: str
    runs: int
    mean: Estimate
    difference: Estimate | None
    probability: float | None


@dataclasses.dataclass(frozen=True)
class Effect:
    """The effect of one choice (a setting that differs between runs) on the primary metric.

    Args:
        key: name of the config group, or the full config key.
        levels: the choice's values, in the order in which they first occur.
        is_balanced: whether the other choices have the same distribution for every value of this choice.
        importance: proportion of the metric's variance that the choice explains (fANOVA: Hutter et al., 2014); `None`
            if it cannot be computed, for example because there are few runs or scikit-learn is not installed.
    """

    key: str
    levels: list[Level]
    is_balanced: bool
    importance: float | None


def effects(scores: RunScores, factors: Sequence[Factor]) -> list[Effect]:
    """Compute the effect on a metric of each choice: each setting that differs between the runs.

    More than 8 different numbers (`MAX_LEVELS`) are first grouped into ranges. Then a choice is left out if every run
    has a different value, or if it has more than 8 values. If there is only one choice, an empty list is returned: the
    comparison of configurations already shows the effect of this choice.

    Args:
        scores: the runs' scores by the metric.
        factors: the choices, with each run's value.
    """
    if len(factors) < 2:
        return []
    importances = _importances(scores, factors)
    found = []
    for index, factor in enumerate(factors):
        values = _in_ranges(factor.values)
        levels = list(dict.fromkeys(values))
        if not 1 < len(levels) <= MAX_LEVELS or len(levels) == len(values):
            continue
        others = [one for other, one in enumerate(factors) if other != index]
        found.append(
            Effect(
                factor.key,
                _levels(scores, values, levels),
                _is_balanced(values, levels, others),
                importances.get(factor.key),
            )
        )
    return found


def _levels(scores: RunScores, values: Sequence[str], levels: Sequence[str]) -> list[Level]:
    groups = [[run for run, value in enumerate(values) if value == level] for level in levels]
    best = scores.best(groups)
    differences = iter(scores.differences(groups, best))
    found = []
    for index, (level, group) in enumerate(zip(levels, groups, strict=True)):
        difference, probability = (None, None) if index == best else next(differences)
        found.append(Level(level, len(group), scores.mean(group), difference, probability))
    return found


def _is_balanced(values: Sequence[str], levels: Sequence[str], others: Sequence[Factor]) -> bool:
    """Whether the other choices have the same distribution for every value of a choice.

    Args:
        values: each run's value of the choice.
        levels: the distinct values.
        others: the other choices.
    """
    shares = []
    for level in levels:
        runs = [run for run, value in enumerate(values) if value == level]
        counts = Counter(tuple(other.values[run] for other in others) for run in runs)
        shares.append({key: count / len(runs) for key, count in counts.items()})
    return all(share == shares[0] for share in shares)


def _in_ranges(values: Sequence[str]) -> list[str]:
    """If a setting has more than 8 different numbers as values, replace each run's number by a range that contains it.

    A range is a text such as `1 to 4`; each contains the numbers of about equally many runs. Up to 8 different numbers
    (`MAX_LEVELS`), and values that are not all numbers, are returned unchanged.

    Args:
        values: each run's value of the setting.
    """
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
    """Compute by Optuna's fANOVA the proportion of the metric's variance that each choice explains.

    The result is keyed by the choice's key. It is empty if there are fewer than 4 runs (`MIN_RUNS`), if the metric is
    not finite for a run or is equal for all runs, or if scikit-learn is not installed.
    """
    if len(scores.values) < MIN_RUNS or not all(map(math.isfinite, scores.values)):
        return {}
    if len(set(scores.values)) == 1:
        return {}
    if not can_compute_importance():
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


def can_compute_importance() -> bool:
    """Whether scikit-learn, which Optuna's fANOVA needs, is installed."""
    return is_installed("sklearn")


def _distribution(factor: Factor, numbers: Sequence[float] | None) -> object:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if numbers is None:
        return CategoricalDistribution(list(dict.fromkeys(factor.values)))
    low, high = min(numbers), max(numbers)
    return FloatDistribution(low, high, log=low > 0 and high / low > 10)
