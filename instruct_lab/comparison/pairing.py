"""Pair the results of several runs that were measured on the same examples in the same way."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

from omegaconf import OmegaConf

from instruct_lab.comparison.arms import Arm, group_arms
from instruct_lab.comparison.scores import RunScores
from instruct_lab.config.build import build
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import AnswerMetric, Metric, MetricValue
from instruct_lab.metrics.benchmark import score_of
from instruct_lab.metrics.references import all_references
from instruct_lab.metrics.signatures import engine_of, measured_alike, without_engine
from instruct_lab.records import Measurement, Results, Summary
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import AFTER, split_of


@dataclasses.dataclass(frozen=True)
class PairedRuns:
    """The results of several runs, for each metric.

    A metric is paired if all runs were measured by it in the same way and on the same examples.

    Args:
        arms: the configurations.
        results: the metrics of each run's summary, keyed by `split/metric` and then by system.
        metrics: each tuned model's value, keyed by `split/metric`; `None` if it was not measured.
        scores: the scores of all runs, keyed by `split/metric`; only paired metrics.
        unpaired: the reason why the runs cannot be paired, keyed by `split/metric`.
    """

    arms: list[Arm]
    results: list[dict[str, dict[str, MetricValue]]]
    metrics: dict[str, list[MetricValue | None]]
    scores: dict[str, RunScores]
    unpaired: dict[str, str]


def pair_runs(records: Sequence[RunRecord], primary: str | None = None, *, across_engines: bool = False) -> PairedRuns:
    """Pair the results of runs, metric by metric.

    Args:
        records: records of two or more finished runs.
        primary: a metric that at least one run must have; `None`: no metric is required.
        across_engines: whether to pair values whose answers were decoded by different engines.

    Raises:
        InstructLabError: fewer than two runs are given, a run has no results, or no run has the primary metric.
    """
    if len(records) < 2:
        raise InstructLabError(
            "There is nothing to compare: fewer than two finished runs", do="name several, or a sweep"
        )
    arms = group_arms(records)
    results = [_results(record) for record in records]
    names = list(dict.fromkeys(name for metrics in results for name in metrics))
    if primary is not None and primary not in names:
        raise InstructLabError(
            f"No run was measured by {primary}",
            where=f"the comparison of {len(records)} runs",
            do=f"choose {nearest(primary, names) or 'one of'}: {', '.join(names)}",
        )
    metrics = {name: [one.get(name, {}).get(AFTER) for one in results] for name in names}
    return PairedRuns(arms, results, metrics, *_paired(records, arms, metrics, across_engines))


def _results(record: RunRecord) -> dict[str, dict[str, MetricValue]]:
    found = (record.summary or Summary()).metrics
    if not found:
        raise InstructLabError(
            "The run has no results to compare", where=f"run {record.id}", do="finish it: instruct-lab resume"
        )
    return found


def _paired(
    records: Sequence[RunRecord],
    arms: Sequence[Arm],
    metrics: Mapping[str, list[MetricValue | None]],
    across_engines: bool,
) -> tuple[dict[str, RunScores], dict[str, str]]:
    """Return the scores of all runs by each metric that can be paired, and the reason for each metric that cannot."""
    measured = [Measured(record.read_results(AFTER) or {}) for record in records]
    known = build(OmegaConf.create({"metrics": records[0].config.get("metrics") or {}})).root["metrics"]
    scores, unpaired = {}, {}
    for name, values in metrics.items():
        rows = [one.rows(name) for one in measured]
        computed = next((text for one in measured if (text := one.signature(name))), None)
        metric: Metric | None = known.get(name.rpartition("/")[2]) if computed is None else score_of(computed)
        if metric is None or any(value is None or math.isnan(value.value) for value in values):
            unpaired[name] = "not every run was measured by it"
        elif any(not one for one in rows) or len({one.examples(name) for one in measured}) > 1:
            unpaired[name] = f"the runs were not measured on the same examples ({_other_examples(measured, name)})"
        elif reason := _measured_differently([value.signature for value in values if value], across_engines):
            unpaired[name] = reason
        else:
            if isinstance(metric, AnswerMetric):
                metric = metric.for_references(measured[0].references(name))
            clusters = next((found for one in measured if (found := one.clusters(name))), [])
            scores[name] = RunScores(metric, rows, [arm.runs for arm in arms], clusters=clusters)
    return scores, unpaired


def _measured_differently(signatures: Sequence[str], across_engines: bool) -> str | None:
    """Return why values with these signatures cannot be compared, or `None` if they can.

    A signature describes how a value was computed.
    """
    alike = dict.fromkeys(map(measured_alike, signatures))
    ways = list(dict.fromkeys(map(without_engine, alike)))
    if len(ways) > 1:
        return f"the runs were not measured in the same way ({_other_ways(*ways[:2])})"
    if len(alike) == 1 or across_engines:
        return None
    engines = " and ".join(sorted({engine_of(signature) for signature in signatures}))
    return f"the answers were decoded by different engines, {engines}: --across-engines compares them"


def _other_examples(measured: Sequence[Measured], name: str) -> str:
    """Describe how many examples two runs share, or say that only the references or the order differ."""
    first = measured[0].examples(name)
    second = next((found for one in measured[1:] if (found := one.examples(name)) != first), first)
    ids = [{example[0] for example in examples} for examples in (first, second)]
    common = len(ids[0] & ids[1])
    if ids[0] == ids[1]:
        return f"the same {common} with other references, or in another order"
    return f"{len(first)} and {len(second)}, of which {common} are the same"


def _other_ways(first: str, second: str) -> str:
    """Name the differing parts of two descriptions of a measurement, which have the form `part|part|...`."""
    parts = [text.split("|") for text in (first, second)]
    different = [[part for part in one if part not in other] for one, other in (parts, parts[::-1])]
    return " against ".join(", ".join(one) or "nothing" for one in different)


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

    def signature(self, name: str) -> str | None:
        """Return the description of how a benchmark's score is computed; `None` for a metric of the config."""
        return self._part(name.rpartition("/")[0]).signatures.get(name.rpartition("/")[2])

    def clusters(self, name: str) -> list[str]:
        """Return the cluster of each example on which a metric was computed; empty if no example has a cluster."""
        return self._part(name.rpartition("/")[0]).clusters_of(self.rows(name))

    def examples(self, name: str) -> tuple[tuple[str, ...], ...]:
        """Return the id and references (with normalized white space) of each example on which a metric was computed."""
        return self._examples(name.rpartition("/")[0])

    def references(self, name: str) -> list[str]:
        """Return all references in the split of a metric, which is named `split/metric`."""
        return all_references(self._part(split_of(name)).predictions)

    def _examples_of(self, prefix: str) -> tuple[tuple[str, ...], ...]:
        predictions = self._part(prefix).predictions
        return tuple((one.id, *(" ".join(text.split()) for text in one.references)) for one in predictions)

    def _part(self, prefix: str) -> Measurement:
        """Return the measurement on a split or, if `prefix` is `split/source`, on the examples from this source."""
        source = prefix.partition("/")[2]
        after = self._results.get(split_of(prefix), {}).get(AFTER, Measurement())
        return after.of_source(source) if source else after
