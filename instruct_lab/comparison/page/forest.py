"""Collect the rows of the forest plot: each configuration's value with its interval, and how it compares to the best.

A configuration is a set of runs that differ only in the seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.comparison.compare import Comparison
from instruct_lab.comparison.page.values import finite, measured
from instruct_lab.records.record import RunRecord
from instruct_lab.terminal import visible

BEST, ALIKE, WORSE = "best", "not distinguishable", "worse"
"""The verdicts on a configuration: it is the best, it cannot be distinguished from the best, or it is worse."""


def forests(
    records: Sequence[RunRecord], labels: Sequence[str], compared: Comparison
) -> dict[str, list[dict[str, Any]]]:
    """Collect the rows of the forest plot of each metric, keyed by `split/metric`; the primary metric comes first.

    If a metric was computed for all runs in the same way and on the same examples, each row is a configuration, with
    the mean of its runs and a verdict; the best configuration comes first. Otherwise, each row is one run, without a
    verdict.

    Args:
        records: the records of all runs on the page.
        labels: the label of each record's run.
        compared: the comparison of the finished runs.
    """
    indices = {record.id: index for index, record in enumerate(records)}
    names = sorted(compared.metrics, key=lambda name: name != compared.primary)
    found = {
        name: _rows_of_arms(compared, name, indices)
        if name in compared.means
        else _rows_of_runs(compared, name, indices)
        for name in names
    }
    for rows in found.values():
        for row in rows:
            row["label"] = visible(row["label"] or labels[row["runs"][0]])
    return {name: rows for name, rows in found.items() if rows}


def _rows_of_arms(compared: Comparison, name: str, indices: Mapping[str, int]) -> list[dict[str, Any]]:
    differences = {one.arm: one for one in compared.differences[name]}
    rows: list[dict[str, Any]] = []
    for arm, mean in zip(compared.arms, compared.means[name], strict=True):
        one = differences.get(arm.id)
        verdict = BEST if one is None else WORSE if one.is_significant else ALIKE
        rows.append(
            {
                "label": arm.label,
                "value": [measured(mean.value), measured(mean.low), measured(mean.high)],
                "runs": [indices[compared.runs[run]] for run in arm.runs],
                "verdict": verdict,
                "difference": None if one is None else [measured(one.value), measured(one.low), measured(one.high)],
                "probability": None if one is None else finite(one.probability),
            }
        )
    best = next(row["value"][0] for row in rows if row["verdict"] == BEST)
    return sorted(rows, key=lambda row: _distance(row["value"][0], best))


def _rows_of_runs(compared: Comparison, name: str, indices: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {
            "label": "",
            "value": [measured(value.value), measured(value.low), measured(value.high)],
            "runs": [indices[run]],
            "verdict": None,
            "difference": None,
            "probability": None,
        }
        for run, value in zip(compared.runs, compared.metrics[name], strict=True)
        if value is not None and finite(value.value) is not None
    ]


def _distance(value: float | None, best: float | None) -> float:
    return float("inf") if value is None or best is None else abs(value - best)
