"""What trackers receive, in the flat forms that they take: settings, final values, tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Scalar = str | int | float | bool | None
Table = tuple[list[str], list[list[Any]]]
"""Columns, and rows of as many cells."""

INTERVAL = ("low", "high")


def flat_config(config: Mapping[str, Any]) -> dict[str, Scalar]:
    """The config as single settings by full key (`tuning.r`); a list of plain values is one setting, as JSON."""
    return dict(_settings("", config))


def _settings(prefix: str, value: Any) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _settings(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for place, inner in enumerate(value):
            yield from _settings(f"{prefix}.{place}", inner)
    elif value is None or isinstance(value, str | int | float):
        yield prefix, value
    else:
        yield prefix, json.dumps(value, default=str, ensure_ascii=False)


def final_values(summary: Mapping[str, Any]) -> dict[str, int | float]:
    """The numbers of `summary.json`: `test/chrf/after`, `test/chrf/after_low`, `test/chrf/after_high`, `cost/seconds`.

    Each metric has such three for every system that was measured: `before`, `after`, the baselines, and `difference`.
    """
    values = {f"cost/{name}": value for name, value in summary.items() if isinstance(value, int | float)}
    for name, system, measured in _measured(summary):
        values[f"{name}/{system}"] = measured["value"]
        values |= {f"{name}/{system}_{end}": measured[end] for end in INTERVAL if measured.get(end) is not None}
    return {name: value for name, value in values.items() if value is not None}


def without_intervals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Final values alone, where each would be a chart of its own."""
    ends = {f"{name}_{end}" for name in values for end in INTERVAL}
    return {name: value for name, value in values.items() if name not in ends}


def results_table(summary: Mapping[str, Any]) -> Table:
    """The metrics of `summary.json`, a row for each system that was measured."""
    columns = ["value", *INTERVAL, "count"]
    rows = [
        [name, system, *(measured.get(column) for column in columns)] for name, system, measured in _measured(summary)
    ]
    return ["metric", "system", *columns], rows


def _measured(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for name, systems in (summary.get("metrics") or {}).items():
        for system, measured in systems.items():
            yield name, system, measured


def predictions_table(predictions: Sequence[Mapping[str, Any]]) -> Table:
    """The lines of `predictions.jsonl`: what was asked and expected, both models' answers, and each metric's score."""
    metrics = list(dict.fromkeys(name for line in predictions for name in line.get("scores") or {}))
    columns = ["id", "split", "prompt", "references", "prediction_before", "prediction"]
    rows = []
    for line in predictions:
        told = {**line, "references": "\n".join(line.get("references") or [])}
        scores = line.get("scores") or {}
        rows.append([*(told.get(column) for column in columns), *(scores.get(name) for name in metrics)])
    return [*columns, *metrics], rows


def audit_reasons_table(audit: Mapping[str, Any]) -> Table:
    """A row for each reason of `audit.json`, with its first sample."""
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
