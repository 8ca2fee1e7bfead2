"""Render the table of `instruct-lab runs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from instruct_lab.records.query import FoundRun

MAX_METRICS = 4


def runs_table(found: Sequence[FoundRun]) -> Table:
    """Return a table of runs that a query found.

    Its columns are the status, the choices in which the runs differ, the values of the query's keys, and some metrics.
    """
    groups = list(dict.fromkeys(group for one in found for group in one.run.choices))
    asked = list(dict.fromkeys(key for one in found for key in one.values if key not in ("id", "name", "status")))
    differing = [
        group for group in groups if group not in asked and len({str(one.run.choices.get(group)) for one in found}) > 1
    ]
    metrics = [name for name in dict.fromkeys(name for one in found for name in one.run.metrics) if name not in asked]
    first = metrics[:MAX_METRICS]
    table = Table(Column("id", no_wrap=True), Column("name", overflow="fold"), "status", *differing, *asked, *first)
    for one in found:
        cells = [one.run.choices.get(group) for group in differing]
        cells += [one.values.get(key) for key in asked]
        cells += [one.run.metrics.get(name) for name in first]
        table.add_row(*map(Text, [one.run.id, one.run.name, one.run.status_text, *map(_cell_text, cells)]))
    if len(metrics) > MAX_METRICS:
        table.caption = f"{len(found)} runs; also measured: {', '.join(metrics[MAX_METRICS:])}"
        table.caption_justify = "left"
    return table


def _cell_text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
