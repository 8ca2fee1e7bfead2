"""Convert the settings, final values and tables of a run to the flat dictionaries and rows that trackers accept."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from instruct_lab.config.build import build
from instruct_lab.metrics import AnswerMetric, ComparisonMetric

if TYPE_CHECKING:
    from instruct_lab.metrics import MetricValue
    from instruct_lab.records.schema import PredictionLine, Summary

Scalar = str | int | float | bool | None
Table = tuple[list[str], list[list[Any]]]
"""Column names, and rows with one cell for each column."""

INTERVAL = ("low", "high")
SUMMARY_COSTS = ("seconds", "tokens", "training_seconds", "peak_memory_bytes", "weights_bytes")


def flat_config(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """Flatten the nested config to a dictionary with keys such as `tuning.r`.

    A list of plain values becomes one JSON text. A list that contains mappings is flattened too; the index of each item
    becomes a part of the key.
    """
    return dict(_settings("", config))


def _settings(prefix: str, value: Any) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _settings(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from _settings(f"{prefix}.{index}", inner)
    elif value is None or isinstance(value, str | int | float):
        yield prefix, value
    else:
        yield prefix, json.dumps(value, default=str, ensure_ascii=False)


def final_values(summary: Summary) -> dict[str, int | float]:
    """Return a summary's numbers under names such as `cost/seconds`, `test/chrf/after` and `test/chrf/after_low`.

    Each metric was measured on several systems: the base model (`before`), each baseline and the tuned model (`after`).
    For each of them, and for the `difference` of tuned and base model, there are three numbers: the value and the two
    ends of its confidence interval (`_low`, `_high`). Numbers that are not finite are left out.
    """
    values = {f"cost/{name}": getattr(summary, name) for name in SUMMARY_COSTS}
    for name, system, measured in _systems(summary):
        values[f"{name}/{system}"] = measured.value
        values |= {f"{name}/{system}_{end}": getattr(measured, end) for end in INTERVAL}
    return {name: value for name, value in values.items() if _finite(value) is not None}


def estimates_of(config: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the metrics, such as `val/chrf`, that a run estimates from a few answers during training.

    Args:
        config: the run's config, resolved.
    """
    if not (config.get("evaluation") or {}).get("during_examples"):
        return frozenset()
    metrics = build(OmegaConf.create({"metrics": config.get("metrics") or {}})).root["metrics"]
    return frozenset(
        f"val/{name}"
        for name, metric in metrics.items()
        if isinstance(metric, AnswerMetric) and not isinstance(metric, ComparisonMetric)
    )


def tracker_names(values: Mapping[str, Any], estimates: frozenset[str]) -> dict[str, Any]:
    """Rename the values that are only estimates, such as `val/chrf` to `val/chrf_estimate`; other names stay.

    Trackers show the last estimate next to the final value `val/chrf/after`; the suffix distinguishes the two.

    Args:
        values: measured values, keyed by `split/metric`.
        estimates: names of the metrics that are estimated from a few answers.
    """
    return {f"{name}_estimate" if name in estimates else name: value for name, value in values.items()}


def without_intervals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the ends of confidence intervals from final values, for trackers that draw a chart of each value."""
    ends = {f"{name}_{end}" for name in values for end in INTERVAL}
    return {name: value for name, value in values.items() if name not in ends}


def results_table(summary: Summary) -> Table:
    """Return a table of a summary's metrics and their notes, with a row for each metric and measured system.

    A system is the model before or after training, a baseline, or the difference of the two models.
    """
    columns = ["value", *INTERVAL, "count"]
    rows = [
        [name, system, *(_finite(getattr(measured, column)) for column in columns), "; ".join(measured.notes)]
        for name, system, measured in _systems(summary)
    ]
    return ["metric", "system", *columns, "notes"], rows


def _systems(summary: Summary) -> Iterator[tuple[str, str, MetricValue]]:
    for name, systems in summary.metrics.items():
        for system, measured in systems.items():
            yield name, system, measured


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def predictions_table(predictions: Sequence[PredictionLine]) -> Table:
    """Return a table of predictions: prompt, references, the answers before and after training, and scores."""
    metrics = list(dict.fromkeys(name for line in predictions for name in line.scores))
    columns = ["id", "split", "prompt", "references", "prediction_before", "prediction"]
    rows: list[list[Any]] = []
    for line in predictions:
        texts = [line.id, line.split, line.prompt, "\n".join(line.references), line.prediction_before, line.prediction]
        rows.append([*texts, *(line.scores.get(name) for name in metrics)])
    return [*columns, *metrics], rows


def plain_cell(value: Any) -> Any:
    """Convert a cell to a value that every tracker accepts: `None`, texts and numbers stay, others become text."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


def audit_reasons_table(audit: Mapping[str, Any]) -> Table:
    """Return a table of the reasons in `audit.json`, such as those for dropping or changing rows.

    Each row of the table holds one reason with its first sample; reasons without a sample are left out.
    """
    rows = [
        [
            reason["stage"],
            reason["action"],
            reason["reason"],
            reason["count"],
            sample.get("before"),
            sample.get("after"),
        ]
        for reason in audit.get("reasons", [])
        for sample in reason.get("samples", [])[:1]
    ]
    return ["stage", "action", "reason", "count", "before", "after"], rows
