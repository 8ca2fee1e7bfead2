"""Pair the results of several runs, so that they can be compared example by example.

A metric is paired if all runs were measured by it in the same way and on the same examples.
"""

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
        arms: the configurations; a configuration is a set of runs that differ only in the seed.
        results: the metrics in each run's summary, keyed by `split/metric` and then by system, such as `before` for the
            base model.
        metrics: for each metric (`split/metric`), the value of each run's tuned model; `None` if it was not measured.
        scores: for each paired metric, the scores of all runs.
        unpaired: for each metric that is not paired, the reason.
    """

    arms: list[Arm]
    results: list[dict[str, dict[str, MetricValue]]]
    metrics: dict[str, list[MetricValue | None]]
    scores: dict[str, RunScores]
    unpaired: dict[str, str]


def pair_runs(records: Sequence[RunRecord], primary: str | None = None, *, across_engines: bool = False) -> PairedRuns:
    """Pair the results of runs for each metric that all runs measured in the same way and on the same examples.

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
    """Pair the runs' results metric by metric, and return two dictionaries that are keyed by `split/metric`.

    The first holds the scores of all runs for each metric that can be paired. The second holds, for each other metric,
    the reason why it cannot be paired.

    Args:
        records: the records of the runs.
        arms: the configurations.
        metrics: for each metric, the value of each run; `None` if it was not measured.
        across_engines: whether to pair values whose answers were decoded by different engines.
    """
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
    """Return why values of a metric cannot be compared, or `None` if they can.

    Args:
        signatures: for each run, the description of how its value was computed.
        across_engines: whether answers that different engines decoded can be compared.
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
    """Describe how the examples of two runs differ: how many each run has, and how many they have in common.

    If both runs have examples with the same ids, the text says that only the references or the order differ.

    Args:
        measured: the measurements of each run. The two runs are the first one in this list and the next one whose
            examples differ from the first run's.
        name: name of the metric, as `split/metric`.
    """
    first = measured[0].examples(name)
    second = next((found for one in measured[1:] if (found := one.examples(name)) != first), first)
    ids = [{example[0] for example in examples} for examples in (first, second)]
    common = len(ids[0] & ids[1])
    if ids[0] == ids[1]:
        return f"the same {common} with other references, or in another order"
    return f"{len(first)} and {len(second)}, of which {common} are the same"


def _other_ways(first: str, second: str) -> str:
    """Name what differs between two descriptions of how a value was computed.

    A description has the form `part|part|...`. The result lists the parts that only the first description has, and then
    the parts that only the second has.
    """
    parts = [text.split("|") for text in (first, second)]
    different = [[part for part in one if part not in other] for one, other in (parts, parts[::-1])]
    return " against ".join(", ".join(one) or "nothing" for one in different)


class Measured:
    """Reads the tuned model's measurements from the results in one run's record.

    Args:
        results: the results in the record: measurements of the tuned model and of its baselines, keyed by split and
            then by system (`after` for the tuned model).
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._examples = functools.cache(self._examples_of)

    def rows(self, name: str) -> list[list[float]]:
        """Return, for each example, the statistics from which a metric's value is computed.

        Args:
            name: name of the metric, as `split/metric`, or `split/source/metric` for the examples from one source.
        """
        return self._part(name.rpartition("/")[0]).rows.get(name.rpartition("/")[2], [])

    def signature(self, name: str) -> str | None:
        """Return the description of how a benchmark's score is computed; `None` for a metric from the run's config."""
        return self._part(name.rpartition("/")[0]).signatures.get(name.rpartition("/")[2])

    def clusters(self, name: str) -> list[str]:
        """Return the name of the cluster (of related examples) of each example on which a metric was computed.

        The list is empty if no example has a cluster.
        """
        return self._part(name.rpartition("/")[0]).clusters_of(self.rows(name))

    def examples(self, name: str) -> tuple[tuple[str, ...], ...]:
        """Return the id and references (with normalized white space) of each example on which a metric was computed."""
        return self._examples(name.rpartition("/")[0])

    def references(self, name: str) -> list[str]:
        """Return the reference answers of all examples in a split.

        Args:
            name: name of a metric, as `split/metric`; only the split is used.
        """
        return all_references(self._part(split_of(name)).predictions)

    def _examples_of(self, prefix: str) -> tuple[tuple[str, ...], ...]:
        predictions = self._part(prefix).predictions
        return tuple((one.id, *(" ".join(text.split()) for text in one.references)) for one in predictions)

    def _part(self, prefix: str) -> Measurement:
        """Return the tuned model's measurement on the split `prefix`.

        If `prefix` has the form `split/source`, only the examples from this source are included.
        """
        source = prefix.partition("/")[2]
        after = self._results.get(split_of(prefix), {}).get(AFTER, Measurement())
        return after.of_source(source) if source else after
