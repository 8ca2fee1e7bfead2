"""Compare finished runs: find the settings that differ, and compute each metric's intervals and paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from instruct_lab.comparison.arms import Arm, choice_differences, config_differences, factors
from instruct_lab.comparison.baselines import Baseline, find_baselines, notes_on
from instruct_lab.comparison.clusters import cluster_notes
from instruct_lab.comparison.disagreements import Disagreement, disagreements
from instruct_lab.comparison.effects import Effect, effects
from instruct_lab.comparison.fronts import Front, fronts
from instruct_lab.comparison.pairing import pair_runs
from instruct_lab.comparison.power import LEVEL
from instruct_lab.comparison.scores import Estimate, Noise, RunScores
from instruct_lab.metrics import MetricValue
from instruct_lab.records.costs import COSTS, costs_of
from instruct_lab.records.record import RunRecord

ALIKE = "not distinguishable"
DIFFERS = {
    True: "differs",
    False: "differs on these examples (one run each: training noise unknown)",
}
"""Verdicts on a significant difference, keyed by whether the variation between seeds is known."""


def verdict(probability: float, *, has_noise: bool) -> str:
    """Return `differs` if the p-value is below 0.05, otherwise `not distinguishable`.

    If the p-value does not include the variation between seeds, a text after `differs` says that the verdict is only
    about the examples of this comparison.

    Args:
        probability: p-value of the difference.
        has_noise: whether the p-value includes the variation between seeds.
    """
    return DIFFERS[has_noise] if probability < LEVEL else ALIKE


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference between a configuration and the best one, measured on the same examples.

    Args:
        arm: the configuration's id.
        value: the configuration's value minus the best configuration's value.
        low: lower end of the difference's 95% bootstrap interval.
        high: upper end of this interval.
        probability: two-sided p-value of the difference, corrected for the number of pairs of configurations.
        count: number of examples on which both configurations were measured.
        has_noise: whether the interval and the p-value include the variation between seeds, which is unknown if every
            configuration has only one run.
    """

    arm: str
    value: float
    low: float
    high: float
    probability: float
    count: int
    has_noise: bool = True

    @property
    def is_significant(self) -> bool:
        """Whether the difference is statistically significant: whether its p-value is below 0.05."""
        return self.probability < LEVEL

    @property
    def verdict(self) -> str:
        """`differs` if the difference is significant, otherwise `not distinguishable`.

        If every configuration has only one run, a text after `differs` says that the verdict is only about the examples
        of this comparison.
        """
        return verdict(self.probability, has_noise=self.has_noise)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of several runs.

    Runs that differ only in the seed are one configuration; the code calls it an arm, as in a clinical trial. A metric
    is paired if it was computed for all runs in the same way and on the same examples.

    Args:
        runs: ids of the runs, in the order in which the runs were given.
        arms: the configurations.
        choices: for each config group in which the runs differ, the option that each run chose.
        config: for each config key in which the runs differ, the value in each run.
        costs: for each cost, such as `training_seconds`, the cost of each run; `None` if it was not recorded.
        metrics: for each metric (`split/metric`), each run's value with its interval; `None` if it was not measured.
        notes: for each metric, warnings about values that may mislead.
        baselines: the model before training and the data set's baselines, with their values.
        means: for each paired metric, each configuration's mean over its runs, with its interval.
        noise: for each paired metric, the variation between runs that differ only in the seed; `None` if no
            configuration has several runs.
        best: for each paired metric, the id of the best configuration.
        differences: for each paired metric, the difference of every other configuration from the best one.
        unpaired: for each metric that is not paired, the reason.
        primary: the metric that `effects`, `fronts` and `disagreements` are about; `None` if no metric is paired.
        effects: the effect of each differing setting on the primary metric.
        fronts: for each cost, the Pareto front of the primary metric against it.
        disagreements: the examples on which the two best configurations differ most by the primary metric.
    """

    runs: list[str]
    arms: list[Arm]
    choices: dict[str, list[Any]]
    config: dict[str, list[Any]]
    costs: dict[str, list[float | None]]
    metrics: dict[str, list[MetricValue | None]]
    notes: dict[str, list[str]]
    baselines: list[Baseline]
    means: dict[str, list[Estimate]]
    noise: dict[str, Noise | None]
    best: dict[str, str]
    differences: dict[str, list[Difference]]
    unpaired: dict[str, str]
    primary: str | None
    effects: list[Effect]
    fronts: list[Front]
    disagreements: list[Disagreement]

    def to_json(self) -> dict[str, Any]:
        """Convert the comparison to a dictionary for JSON."""
        plain = dataclasses.asdict(self)
        for name, differences in self.differences.items():
            plain["differences"][name] = [{**dataclasses.asdict(one), "verdict": one.verdict} for one in differences]
        return plain


def compare(
    records: Sequence[RunRecord],
    primary: str | None = None,
    num_disagreements: int = 5,
    *,
    across_engines: bool = False,
) -> Comparison:
    """Compare finished runs, metric by metric.

    If all runs were measured by a metric in the same way and on the same examples, the metric is paired: every
    configuration is compared with the best one. For other metrics, only the runs' values are listed.

    Args:
        records: records of two or more finished runs.
        primary: the metric, as `split/metric`, for the effects of settings, the Pareto fronts and the examples with
            the largest differences; `None`: the first paired metric.
        num_disagreements: maximum number of examples to list on which the two best configurations differ most.
        across_engines: whether to pair a metric even if the runs' answers were decoded by different engines
            (`generation.engine`).

    Raises:
        InstructLabError: fewer than two runs are given, a run has no results, or no run has the primary metric.
    """
    paired = pair_runs(records, primary, across_engines=across_engines)
    arms, metrics, scores, results = paired.arms, paired.metrics, paired.scores, paired.results
    primary = primary or next(iter(scores), None)
    groups = [arm.runs for arm in arms]
    best = {name: scored.best(groups) for name, scored in scores.items()}
    by_run = [costs_of(record) for record in records]
    costs = {name: [run[name] for run in by_run] for name in COSTS}
    chosen = scores.get(primary or "")
    runs = [record.id for record in records]
    best_arms = {name: arms[index].id for name, index in best.items()}
    return Comparison(
        runs=runs,
        arms=arms,
        choices=choice_differences(records),
        config=config_differences(records),
        costs={name: values for name, values in costs.items() if any(value is not None for value in values)},
        metrics=metrics,
        notes={
            name: [
                *notes_on(runs, values),
                *(cluster_notes(scores[name], arms, best[name]) if name in scores else ()),
            ]
            for name, values in metrics.items()
        },
        baselines=find_baselines(runs, results, arms, best_arms),
        means={name: [scored.mean(group) for group in groups] for name, scored in scores.items()},
        noise={name: scored.noise for name, scored in scores.items()},
        best=best_arms,
        differences={name: _differences(scored, arms, best[name]) for name, scored in scores.items()},
        unpaired=paired.unpaired,
        primary=primary,
        effects=effects(chosen, factors(records)) if chosen is not None else [],
        fronts=fronts(chosen, arms, costs) if chosen is not None else [],
        disagreements=disagreements(records, arms, primary, chosen, num_disagreements) if primary and chosen else [],
    )


def _differences(scores: RunScores, arms: list[Arm], best: int) -> list[Difference]:
    others = [arm for index, arm in enumerate(arms) if index != best]
    return [
        Difference(
            arm.id,
            difference.value,
            difference.low,
            difference.high,
            probability,
            scores.count,
            scores.noise is not None,
        )
        for arm, (difference, probability) in zip(
            others, scores.differences([arm.runs for arm in arms], best), strict=True
        )
    ]
