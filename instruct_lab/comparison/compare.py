"""Compare finished runs: find the settings that differ, and compute each metric's intervals and paired differences."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from instruct_lab.comparison.arms import Arm, choice_differences, config_differences, factors, group_arms
from instruct_lab.comparison.baselines import Baseline, find_baselines, notes_on
from instruct_lab.comparison.disagreements import Disagreement, disagreements
from instruct_lab.comparison.effects import Effect, effects
from instruct_lab.comparison.fronts import Front, fronts
from instruct_lab.comparison.scores import Estimate, Noise, RunScores
from instruct_lab.config.build import build
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import AnswerMetric, Metric, MetricValue
from instruct_lab.metrics.references import all_references
from instruct_lab.records import Measurement, Results, Summary
from instruct_lab.records.costs import COSTS, costs_of
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import AFTER, split_of

LEVEL = 0.05
"""Significance level of a difference."""


def verdict(probability: float) -> str:
    """Return the verdict on a difference with this p-value."""
    return "differs" if probability < LEVEL else "not distinguishable"


@dataclasses.dataclass(frozen=True)
class Difference:
    """The difference of one configuration from the best, on the same examples.

    Args:
        arm: the configuration's id.
        value: the configuration's value minus the best configuration's value.
        low: lower end of the 95% interval, see `instruct_lab.comparison.scores`.
        high: upper end of the interval.
        probability: two-sided p-value, corrected for all pairs of configurations.
        count: number of examples.
    """

    arm: str
    value: float
    low: float
    high: float
    probability: float
    count: int

    @property
    def verdict(self) -> str:
        """The verdict: `differs` or `not distinguishable`."""
        return verdict(self.probability)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of several runs.

    Runs that differ only in the seed are one configuration; the code calls it an arm, as in a clinical trial. A metric
    is paired if it was computed for all runs in the same way and on the same examples.

    Args:
        runs: ids of the runs, in the given order.
        arms: the configurations.
        choices: each run's option, keyed by group; only groups whose options differ.
        config: each run's value, keyed by full key; only keys whose values differ.
        costs: each run's cost, keyed by the cost's name.
        metrics: each run's value with its interval, keyed by `split/metric`; `None` if it was not measured.
        notes: warnings about misleading values, keyed by `split/metric`.
        baselines: the model before training and the data set's baselines.
        means: each configuration's mean with its interval, keyed by `split/metric`; only paired metrics.
        noise: variation with the seed, keyed by `split/metric`; `None` if no configuration has several runs.
        best: id of the best configuration, keyed by `split/metric`; only paired metrics.
        differences: each other configuration's difference from the best, keyed by `split/metric`.
        unpaired: the reason why the runs cannot be paired, keyed by `split/metric`.
        primary: the metric used for `effects`, `fronts` and `disagreements`; `None` if no metric is paired.
        effects: the effect of each choice on the primary metric.
        fronts: the Pareto front of the primary metric against each cost.
        disagreements: the examples on which the two best configurations differ most.
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


def compare(records: Sequence[RunRecord], primary: str | None = None, num_disagreements: int = 5) -> Comparison:
    """Compare runs that were evaluated on the same examples.

    For each metric, every configuration is compared with the best one.

    Args:
        records: records of two or more finished runs.
        primary: the metric used for `effects`, `fronts` and `disagreements`; `None`: the first paired metric.
        num_disagreements: maximum number of examples in `disagreements`.

    Raises:
        InstructLabError: fewer than two runs are given, a run has no results, or no run has the primary metric.
    """
    if len(records) < 2:
        raise InstructLabError(
            "There is nothing to compare: fewer than two finished runs", do="name several, or a sweep"
        )
    arms = group_arms(records)
    results = {record.id: _results(record) for record in records}
    names = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    if primary is not None and primary not in names:
        raise InstructLabError(
            f"No run was measured by {primary}",
            where=f"the comparison of {len(records)} runs",
            do=f"choose {nearest(primary, names) or 'one of'}: {', '.join(names)}",
        )
    metrics = {name: [results[record.id].get(name, {}).get(AFTER) for record in records] for name in names}
    scores, unpaired = _paired(records, arms, metrics)
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
        notes={name: notes_on(runs, values) for name, values in metrics.items()},
        baselines=find_baselines(runs, [results[run] for run in runs], arms, best_arms),
        means={name: [scored.mean(group) for group in groups] for name, scored in scores.items()},
        noise={name: scored.noise for name, scored in scores.items()},
        best=best_arms,
        differences={name: _differences(scored, arms, best[name]) for name, scored in scores.items()},
        unpaired=unpaired,
        primary=primary,
        effects=effects(chosen, factors(records)) if chosen is not None else [],
        fronts=fronts(chosen, arms, costs) if chosen is not None else [],
        disagreements=disagreements(records, arms, primary, chosen, num_disagreements) if primary and chosen else [],
    )


def _results(record: RunRecord) -> dict[str, dict[str, MetricValue]]:
    found = (record.summary or Summary()).metrics
    if not found:
        raise InstructLabError(
            "The run has no results to compare", where=f"run {record.id}", do="finish it: instruct-lab resume"
        )
    return found


def _differences(scores: RunScores, arms: list[Arm], best: int) -> list[Difference]:
    others = [arm for index, arm in enumerate(arms) if index != best]
    return [
        Difference(arm.id, difference.value, difference.low, difference.high, probability, scores.count)
        for arm, (difference, probability) in zip(
            others, scores.differences([arm.runs for arm in arms], best), strict=True
        )
    ]


# ---- the same examples, measured in the same way


def _paired(
    records: Sequence[RunRecord], arms: Sequence[Arm], metrics: Mapping[str, list[MetricValue | None]]
) -> tuple[dict[str, RunScores], dict[str, str]]:
    """Return the scores by each metric for which the runs can be paired, and a reason for each other metric."""
    measured = [Measured(record.read_results(AFTER) or {}) for record in records]
    known = build(OmegaConf.create({"metrics": records[0].config.get("metrics") or {}})).root["metrics"]
    scores, unpaired = {}, {}
    for name, values in metrics.items():
        rows = [one.rows(name) for one in measured]
        metric: Metric | None = known.get(name.rpartition("/")[2])
        if metric is None or any(value is None or math.isnan(value.value) for value in values):
            unpaired[name] = "not every run was measured by it"
        elif any(not one for one in rows) or len({one.examples(name) for one in measured}) > 1:
            unpaired[name] = "the runs were not measured on the same examples"
        elif len({value.signature.split("|empty")[0] for value in values if value}) > 1:
            unpaired[name] = "the runs were not measured in the same way"
        else:
            if isinstance(metric, AnswerMetric):
                metric = metric.for_references(measured[0].references(name))
            scores[name] = RunScores(metric, rows, [arm.runs for arm in arms])
    return scores, unpaired


class Measured:
    """The tuned model's measurements in one run record.

    Args:
        results: measurements of all systems (the tuned model and its baselines), keyed by split and then by system.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._examples = functools.cache(self._examples_of)

    def rows(self, name: str) -> list[list[float]]:
        """Return each example's statistics of a metric; the metric is named `split/metric` or `split/source/metric`."""
        return self._part(name.rpartition("/")[0]).rows.get(name.rpartition("/")[2], [])

    def examples(self, name: str) -> tuple[tuple[str, ...], ...]:
        """Return id and references, with normalized white space, of each example that a metric was computed on."""
        return self._examples(name.rpartition("/")[0])

    def references(self, name: str) -> list[str]:
        """Return all references in a metric's split, which is the first part of its full name `split/metric`."""
        return all_references(self._part(split_of(name)).predictions)

    def _examples_of(self, prefix: str) -> tuple[tuple[str, ...], ...]:
        predictions = self._part(prefix).predictions
        return tuple((one.id, *(" ".join(text.split()) for text in one.references)) for one in predictions)

    def _part(self, prefix: str) -> Measurement:
        """Return the measurement on a split, or on its examples from one source if `prefix` is `split/source`."""
        source = prefix.partition("/")[2]
        after = self._results.get(split_of(prefix), {}).get(AFTER, Measurement())
        return after.of_source(source) if source else after
