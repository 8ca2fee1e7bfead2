"""Build the columns of the table of runs on the comparison page: differing settings, results and costs."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from instruct_lab.comparison.arms import choice_differences, config_differences
from instruct_lab.comparison.compare import Comparison
from instruct_lab.comparison.page.values import finite, keys_of, limit_text, measured
from instruct_lab.records import Manifest
from instruct_lab.records.costs import COSTS, costs_of
from instruct_lab.records.record import RunRecord
from instruct_lab.terminal import visible

Lines = list[dict[str, Any]]

FACTOR = 8
"""Minimum ratio of the largest to the smallest value for a logarithmic axis."""
TRACKER = "tracker"
"""The config group of trackers. They do not change results, so the page hides their columns at first."""
MAX_VALUE = 200
"""Maximum number of characters of a config value in the table."""
COST_LABELS = {
    "training_seconds": ("training, s", 1.0),
    "seconds": ("whole run, s", 1.0),
    "peak_memory_bytes": ("peak memory, MB", 1e-6),
    "trained_parameters": ("trained parameters", 1.0),
    "tokens": ("tokens", 1.0),
    "weights_bytes": ("weights on disk, MB", 1e-6),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table, which shows one property of every run.

    Args:
        key: unique name of the column.
        label: heading of the column.
        kind: what the column shows: `choice` (the chosen option of a config group, or the run's configuration),
            `config` (the value of a config key), `metric`, `logged` (the last value that was logged during training),
            `cost` or `status`.
        values: each run's value; `None` if the run has none.
        low: for metrics, the lower ends of the values' intervals; `None` for other columns.
        high: for metrics, the upper ends of the values' intervals; `None` for other columns.
        best: for metrics, the indices of the runs of the best configuration; empty for other columns.
        shown: whether the column is visible when the page is opened; the reader of the page can show or hide it.
    """

    key: str
    label: str
    kind: str
    values: list[Any]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    best: Sequence[int] = ()
    shown: bool = True

    @property
    def is_numeric(self) -> bool:
        """Whether all values that are not missing are numbers."""
        known = [value for value in self.values if value is not None]
        return bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)

    @property
    def is_log(self) -> bool:
        """Whether a logarithmic axis suits the values.

        The values must be positive numbers, and the largest must be at least 8 times (`FACTOR`) the smallest. If there
        are more than two different values, their median must also be nearer, on the logarithmic axis, to the geometric
        mean of the smallest and the largest than to the arithmetic mean of these two.
        """
        levels = sorted({value for value in self.values if value is not None}) if self.is_numeric else []
        if len(levels) < 2 or levels[0] <= 0 or levels[-1] / levels[0] < FACTOR:
            return False
        if len(levels) == 2:
            return True
        middle = math.log(statistics.median(levels))
        by_factors, by_steps = math.log(levels[0] * levels[-1]) / 2, math.log((levels[0] + levels[-1]) / 2)
        return abs(middle - by_factors) < abs(middle - by_steps)

    def to_json(self) -> dict[str, Any]:
        """Convert the column to the dictionary that the page's script reads."""
        plain = dataclasses.asdict(self)
        if not self.is_numeric:
            plain["values"] = [None if value is None else _format(value) for value in self.values]
        return {**plain, "label": visible(self.label), "numeric": self.is_numeric, "log": self.is_log}


def columns(records: Sequence[RunRecord], compared: Comparison, logged: Sequence[Lines]) -> list[Column]:
    """Create the table's columns: the status, differing options and config keys, metrics, last logged values, costs.

    Args:
        records: the records of all runs on the page.
        compared: the comparison of the finished runs.
        logged: the values that each run logged during training, as one dictionary for each line of its `metrics.jsonl`.
    """
    manifests = [record.manifest for record in records]
    return [
        Column("status", "status", "status", [record.status_text for record in records]),
        *_config_columns(records, manifests),
        *_arm_column(records, compared),
        *_metric_columns(records, compared),
        *_logged_columns(compared, logged),
        *_cost_columns(records),
    ]


def _config_columns(records: Sequence[RunRecord], manifests: Sequence[Manifest]) -> Iterable[Column]:
    choices = choice_differences(records)
    for group, options in choices.items():
        yield Column(f"choice {group}", group, "choice", options, shown=group != TRACKER)
    below = tuple(f"{group.replace('/', '.')}." for group in choices)
    swept = {key for manifest in manifests if manifest.sweep for key in manifest.sweep.values}
    found = config_differences(records)
    for key in sorted(found, key=lambda key: key not in swept):
        yield Column(
            f"config {key}", key, "config", found[key], shown=key in swept or not key.startswith((*below, TRACKER))
        )


def _arm_column(records: Sequence[RunRecord], compared: Comparison) -> Iterable[Column]:
    """If some runs differ only in the seed, yield a column with the label of each run's configuration.

    A configuration is a set of runs that differ only in the seed.
    """
    labels = {compared.runs[run]: arm.label for arm in compared.arms for run in arm.runs}
    if len(compared.arms) < len(compared.runs):
        yield Column(
            "configuration",
            "configuration (all but the seed)",
            "choice",
            [labels.get(one.id) for one in records],
            shown=False,
        )


def _metric_columns(records: Sequence[RunRecord], compared: Comparison) -> Iterable[Column]:
    indices = {record.id: index for index, record in enumerate(records)}
    arms = {arm.id: arm for arm in compared.arms}
    for name, found in compared.metrics.items():
        by_run = {run: value for run, value in zip(compared.runs, found, strict=True) if value is not None}
        ordered = [by_run.get(record.id) for record in records]
        values, low, high = (
            [measured(getattr(one, part, None)) for one in ordered] for part in ("value", "low", "high")
        )
        best = arms.get(compared.best.get(name, ""))
        runs = [] if best is None else [indices[compared.runs[run]] for run in best.runs]
        yield Column(f"metric {name}", name, "metric", values, low, high, runs)


def _logged_columns(compared: Comparison, logged: Sequence[Lines]) -> Iterable[Column]:
    last = [{name: value for line in lines for name, value in line.items() if "/" in name} for lines in logged]
    for name in keys_of(last):
        if name not in compared.metrics and (name == "train/loss" or name.startswith("val/")):
            values = [finite(one.get(name)) for one in last]
            yield Column(f"last {name}", f"{name}, last", "logged", values, shown=name.endswith("/loss"))


def _cost_columns(records: Sequence[RunRecord]) -> Iterable[Column]:
    by_run = [costs_of(record) for record in records]
    for name in COSTS:
        label, unit = COST_LABELS.get(name, (name.replace("_", " "), 1.0))
        values = [finite(run[name], unit) for run in by_run]
        if any(value is not None for value in values):
            yield Column(f"cost {name}", label, "cost", values, shown=name not in ("seconds", "weights_bytes"))


def _format(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return limit_text(text, MAX_VALUE)
