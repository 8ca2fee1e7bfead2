"""The commands that read several runs: compare, report, dashboard."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_lab.terminal import wide_console, write_line

if TYPE_CHECKING:
    from instruct_lab.records import RunRecord
    from instruct_lab.sweep.record import SweepRecord


def compare(parsed: argparse.Namespace) -> int:
    """Compare runs, or the runs of a sweep, on the examples that they share."""
    from instruct_lab.comparison.compare import compare
    from instruct_lab.comparison.text import markdown, show

    sweep = _named_sweep(parsed)
    records, metric = _compared(parsed, sweep)
    compared = compare(records, metric, parsed.disagreements)
    metrics = None if metric is None else [metric]
    if parsed.html:
        from instruct_lab.comparison.page.page import write_comparison

        write_line(write_comparison(Path(parsed.html), records if sweep is None else sweep.runs(), compared))
    elif parsed.json:
        write_line(json.dumps(compared.to_json(), indent=2))
    elif parsed.markdown:
        write_line(markdown(compared, metrics))
    else:
        show(compared, wide_console(), metrics)
    return 0


def _named_sweep(parsed: argparse.Namespace) -> SweepRecord | None:
    """Return the sweep that the command line names; `None` if it names runs."""
    from instruct_lab.sweep.record import find_sweep

    return find_sweep(Path(parsed.runs), parsed.runs_compared[0]) if len(parsed.runs_compared) == 1 else None


def _compared(parsed: argparse.Namespace, sweep: SweepRecord | None) -> tuple[list[RunRecord], str | None]:
    """Return the records to compare and the primary metric: the one after `--metric`, or else that of the sweep."""
    from instruct_lab.records import find_run

    if sweep is None:
        records = {run.path: run for run in (find_run(Path(parsed.runs), name) for name in parsed.runs_compared)}
        return list(records.values()), parsed.metric  # a run that is named twice counts once
    return sweep.finished_runs(), parsed.metric or sweep.measured_metric()


def report(parsed: argparse.Namespace) -> int:
    """Write a study's report to a file, or print it."""
    from instruct_lab.files import write_atomically
    from instruct_lab.sweep.report import report

    text = report(parsed.study, Path(parsed.runs))
    if parsed.output is None:
        write_line(text)
    else:
        write_atomically(Path(parsed.output), [text, "\n"])
        write_line(parsed.output)
    return 0


def dashboard(parsed: argparse.Namespace) -> int:
    """Show all recorded runs on a web page that this machine serves."""
    from instruct_lab.tracker.dashboard import serve

    serve(Path(parsed.runs), port=parsed.port, browser=not parsed.no_browser)
    return 0
