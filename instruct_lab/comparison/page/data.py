"""Collect the data that the scripts of the comparison page read.

If there is too much data, points of curves and whole examples are left out, and notes on the page say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.comparison.baselines import MAX_NAMED, Baseline
from instruct_lab.comparison.compare import Comparison
from instruct_lab.comparison.page.columns import columns
from instruct_lab.comparison.page.curves import curves
from instruct_lab.comparison.page.examples import predictions
from instruct_lab.comparison.page.forest import forests
from instruct_lab.comparison.page.values import logged_values, measured
from instruct_lab.records.labels import label_runs
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_settings import RunSettings
from instruct_lab.terminal import visible


def comparison_data(records: Sequence[RunRecord], compared: Comparison) -> tuple[dict[str, Any], list[str]]:
    """Collect the data that the scripts of the comparison page read.

    Args:
        records: the records of all runs on the page, including unfinished runs, which are not in the comparison.
        compared: the comparison of the finished runs.

    Returns:
        The data, and notes that say whether points of curves or examples were left out, or texts were shortened.
    """
    logged = [logged_values(record) for record in records]
    lines, curve_notes = curves(logged)
    answers, answer_notes = predictions([record.read_predictions() for record in records])
    labels = run_labels(records)
    runs = [{"id": record.id, "label": label} for record, label in zip(records, labels, strict=True)]
    by_id = {run["id"]: run["label"] for run in runs}
    table = [column.to_json() for column in columns(records, compared, logged)]
    data = {
        "runs": runs,
        "columns": table,
        "baselines": [_baseline(one, compared, by_id) for one in compared.baselines],
        "primary": compared.primary,
        "forest": forests(records, labels, compared),
        "unpaired": {name: visible(reason) for name, reason in compared.unpaired.items()},
        "curves": lines,
        "predictions": answers,
    }
    return data, [*curve_notes, *answer_notes]


def _baseline(baseline: Baseline, compared: Comparison, labels: Mapping[str, str]) -> dict[str, Any]:
    """Build the row of a baseline for the table of runs.

    Args:
        baseline: a system that was evaluated without training, such as the base model.
        compared: the comparison.
        labels: the label of each run, keyed by the run's id.

    Returns:
        A dictionary with the row's label, the system's name, its values with their intervals, keyed by the keys of the
        table's columns, and whether the system is the base model.
    """
    values = {
        f"metric {name}": [measured(value.value), measured(value.low), measured(value.high)]
        for name, value in baseline.metrics.items()
    }
    system = label = visible("base model" if baseline.is_base_model else f"baseline {baseline.system}")
    if sum(one.system == baseline.system for one in compared.baselines) > 1:
        named = [labels[compared.runs[run]] for run in baseline.runs]
        more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
        label = f"{label} of {', '.join(named[:MAX_NAMED])}{more}"
    return {"label": label, "system": system, "values": values, "base": baseline.is_base_model}


def run_labels(records: Sequence[RunRecord]) -> list[str]:
    """Label each run by the settings in which it differs from the other runs.

    If several runs have the same label, the id of each follows its label.
    """
    labels = [visible(str(label)) for label in label_runs([RunSettings.read(record) for record in records])]
    repeated = {label for label in labels if labels.count(label) > 1 or not label}
    return [
        (f"{label} ({visible(record.id)})" if label else visible(record.id)) if label in repeated else label
        for record, label in zip(records, labels, strict=True)
    ]
