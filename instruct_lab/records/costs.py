"""The costs of a run: time, memory, disk space, trained parameters and tokens. Lower is better for each."""

from __future__ import annotations

from instruct_lab.pages.format import format_bytes
from instruct_lab.records.record import RunRecord

COSTS = ("seconds", "training_seconds", "peak_memory_bytes", "weights_bytes", "trained_parameters", "tokens")
"""Names of the costs in the record; a sweep can use each of them as its metric."""


def costs_of(record: RunRecord) -> dict[str, float | None]:
    """Return the costs of a run, keyed by name (`training_seconds`); `None` for a cost that is not in the record."""
    summary = record.summary
    found = {name: getattr(summary, name, None) for name in COSTS}
    found["trained_parameters"] = record.manifest.parameters.get("trained")
    return {name: None if value is None else float(value) for name, value in found.items()}


def cost_of(record: RunRecord, name: str) -> float | None:
    """Return one cost of a run, such as `training_seconds`; `None` if it is not in the record."""
    return costs_of(record)[name]


def format_cost(name: str, value: float | None, *, with_unit: bool = False) -> str:
    """Format a cost as text.

    Numbers of bytes always get a unit. Seconds get their unit only if `with_unit` is set, because a table can name the
    unit in its heading.
    """
    if value is None:
        return "-"
    if name.endswith("_bytes"):
        return format_bytes(value)
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    return f"{text} s" if with_unit and name.endswith("seconds") else text
