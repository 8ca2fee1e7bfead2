"""Collect the data of the comparison page, limited in size.

If the data is too large, curves are thinned and examples are left out; notes on the page say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instruct_lab.comparison.baselines import Baseline
from instruct_lab.comparison.compare import Comparison
from instruct_lab.comparison.page.columns import columns
from instruct_lab.comparison.page.curves import curves
from instruct_lab.comparison.page.examples import predictions
from instruct_lab.comparison.page.values import finite, logged_values
from instruct_lab.records.record import RunRecord
from instruct_lab.terminal import visible


def comparison_data(records: Sequence[RunRecord], compared: Comparison) -> tuple[dict[str, Any], list[str]]:
    """Collect the data of the page, and notes about thinned curves and omitted examples.

    Args:
        records: the records of all runs on the page, including runs that are not in the comparison.
        compared: the comparison of the finished runs.
    """
    logged = [logged_values(record) for record in records]
    lines, curve_notes = curves(logged)
    answers, answer_notes = predictions([record.read_predictions() for record in records])
    labels = short_labels([record.id for record in records])
    runs = [{"id": record.id, "label": label} for record, label in zip(records, labels, strict=True)]
    table = [column.to_json() for column in columns(records, compared, logged)]
    data = {
        "runs": runs,
        "columns": table,
        "baselines": [_baseline(one) for one in compared.baselines],
        "primary": compared.primary,
        "curves": lines,
        "predictions": answers,
    }
    return data, [*curve_notes, *answer_notes]


def _baseline(baseline: Baseline) -> dict[str, Any]:
    """Build a baseline's row for the table: its label, and its values with their intervals, keyed by column."""
    values = {
        f"metric {name}": [finite(value.value), finite(value.low), finite(value.high)]
        for name, value in baseline.metrics.items()
    }
    return {"label": visible(baseline.label), "values": values}


def short_labels(ids: Sequence[str]) -> list[str]:
    """Shorten run ids by removing the hyphen-separated parts at the start that all ids share."""
    parts = [one.split("-") for one in ids]
    shared = next((index for index, names in enumerate(zip(*parts, strict=False)) if len(set(names)) > 1), 0)
    labels = [visible("-".join(one[shared:])) for one in parts]
    return labels if all(labels) and len(set(labels)) == len(ids) > 1 else [visible(one) for one in ids]
