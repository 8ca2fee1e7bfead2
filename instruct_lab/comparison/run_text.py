"""Print one run: its status, settings, results and files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from instruct_lab.pages.format import digits_of, format_interval, format_metric, shorten
from instruct_lab.progress import format_seconds
from instruct_lab.records.costs import format_cost
from instruct_lab.records.run_report import RunReport, result_rows
from instruct_lab.tracker.base import short_path

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from instruct_lab.metrics import MetricValue
    from instruct_lab.records.run_report import MetricTable

MAX_TEXT = 200
"""Maximum number of characters that are printed of a value or a message."""
LAYOUT: dict[str, Any] = {"box": None, "padding": (0, 2, 0, 0), "pad_edge": False, "header_style": "dim"}
COST_NAMES = {
    "training_seconds": "training",
    "peak_memory_bytes": "peak memory",
    "weights_bytes": "weights on disk",
    "trained_parameters": "trained parameters",
    "tokens": "target tokens",
}
"""Printed names of the costs. The duration of the whole run is missing, because it is printed beside the status."""


def show(report: RunReport, console: Console) -> None:
    """Print a run in sections: settings, results, costs and files; a section without content is left out."""
    from rich.text import Text

    for line in head_lines(report):
        console.print(Text(line), soft_wrap=True)
    if not report.choices and not report.settings:
        console.print(Text("options and values: all are the defaults"))
    for title, table in (
        (
            settings_title(report),
            _pairs([(key, text, default and f"default {default}") for key, text, default in setting_rows(report)]),
        ),
        ("Results, with 95% intervals", _results_table(report.results, console.width)),
        *((evaluation_title(name), _results_table(found, console.width)) for name, found in report.evaluations.items()),
        ("Costs", _pairs([(COST_NAMES[name], text) for name, text in cost_texts(report)])),
        (
            f"Files in {short_path(report.record.path)}",
            _pairs([(path.name, text) for path, text in report.files.items()]),
        ),
    ):
        if table.row_count:
            console.print()
            console.print(Text(title, style="bold"))
            console.print(table)
    console.print()
    where = report.record.path.parent.parent
    runs = "" if short_path(where) == "runs" else f" --runs {short_path(where)}"
    console.print(Text(f"as a page: instruct-lab show-run {report.record.id}{runs} --html run.html"), soft_wrap=True)


def head_lines(report: RunReport) -> Iterator[str]:
    """Yield the first lines about a run: its id and name, its status, and its error and warnings."""
    manifest = report.manifest
    yield f"run {report.record.id} of {report.record.name}" + (f": {report.label}" if report.label else "")
    parts = [report.status]
    if manifest.started:
        parts.append(f"started {manifest.started[:16].replace('T', ' ')} UTC")
    if manifest.seconds is not None:
        parts.append(f"took {format_seconds(manifest.seconds)}")
    if manifest.num_steps is not None:
        parts.append(f"{manifest.num_steps:,} optimizer steps")
    yield ", ".join(parts)
    if manifest.exception is not None:
        yield f"error: {shorten(manifest.exception.message, MAX_TEXT)}"
    for warning in manifest.warnings:
        yield f"warning: {warning}"


def evaluation_title(name: str) -> str:
    """Return the title of a table of results that `instruct-lab evaluate` measured after the run.

    Args:
        name: name of the evaluation.
    """
    return f"Evaluation {name}, with 95% intervals"


def settings_title(report: RunReport) -> str:
    """Return the title of the table of settings; it depends on whether the defaults of the run's options are known."""
    if report.has_defaults:
        return "Options and values that differ from the defaults"
    return "Options, and values that were typed (an option of this run does not exist here, so there are no defaults)"


def setting_rows(report: RunReport) -> list[tuple[str, str, str]]:
    """Return a table row for each option and each config value that differs from the default.

    A row consists of the name of the group or the key, the option or value as text, and the default as text. If the
    defaults are not known, there is a row for every option and for every value that the user typed, and each default
    is an empty text.
    """
    defaults = report.default_choices if report.has_defaults else {}
    rows = [
        (group, option_text(option), option_text(defaults.get(group, ""))) for group, option in report.choices.items()
    ]
    for key, (value, default) in report.settings.items():
        rows.append((key, value_text(value), value_text(default) if report.has_defaults else ""))
    return rows


def option_text(option: Any) -> str:
    """Format the chosen option of a config group; several chosen options (a list) are separated by commas."""
    return ", ".join(map(str, option)) if isinstance(option, list) else str(option)


def value_text(value: Any) -> str:
    """Format a config value on one line, shortened to 200 characters."""
    if isinstance(value, float):
        return f"{value:g}"
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return shorten(text, MAX_TEXT)


def cost_texts(report: RunReport) -> list[tuple[str, str]]:
    """Return (name, formatted amount) of each cost, such as `training_seconds`, except the run's duration."""
    found = []
    for name, cost in report.costs.items():
        if name in COST_NAMES:
            found.append((name, format_seconds(cost) if name.endswith("seconds") else format_cost(name, cost)))
    return found


def difference_text(value: MetricValue | None, separator: str = " ") -> str:
    """Format the difference between the tuned model and the base model, with its interval; a dash for `None`.

    Args:
        value: the difference.
        separator: text between the difference and its interval.
    """
    if value is None:
        return "-"
    return format_interval(
        value.value, value.low, value.high, digits=digits_of(value), signed=True, separator=separator
    )


def _results_table(results: MetricTable, width: int) -> Table:
    """Build the table of results, without empty columns.

    If the table is wider than `width` characters, each interval is put below its value instead of beside it.
    """
    from rich.table import Column, Table
    from rich.text import Text

    headings, rows = _result_cells(results, " ")
    if sum(max(map(len, cells)) + 2 for cells in zip(headings, *rows, strict=True)) > width:
        headings, rows = _result_cells(results, "\n")
    table = Table(
        *(Column(name, justify="right" if index else "left") for index, name in enumerate(headings)), **LAYOUT
    )
    for row in rows:
        table.add_row(*(Text(cell, no_wrap=True) for cell in row))
    return table


def _result_cells(results: MetricTable, separator: str) -> tuple[list[str], list[list[str]]]:
    """Return the headings and the rows of the table of results, without empty columns.

    Args:
        results: the values, keyed by `split/metric` and then by system.
        separator: text between a value and its interval.
    """
    rows = [
        (name, format_metric(before, separator), format_metric(after, separator), difference_text(change, separator))
        for name, before, after, change in result_rows(results)
    ]
    headings = ("metric", "base model", "after training", "change")
    kept = [index for index in range(len(headings)) if any(row[index] != "-" for row in rows)]
    return [headings[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _pairs(rows: list[Any]) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    width = max(map(len, rows), default=2)
    table = Table(*(Column(overflow="fold") for _ in range(width)), show_header=False, **LAYOUT)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
