"""Show a sweep as a table in the terminal, while the sweep runs and at its end."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from instruct_lab.errors import InstructLabError
from instruct_lab.pages.format import format_duration
from instruct_lab.records import RunRecord
from instruct_lab.records.schema import SweepEntry
from instruct_lab.streams import QuietStream
from instruct_lab.sweep.record import SweepInfo, SweepRecord, final_value
from instruct_lab.sweep.task import Outcome
from instruct_lab.terminal import open_console

STYLES = {"finished": "green", "failed": "red", "pruned": "yellow", "running": "cyan", "interrupted": "magenta"}
REFRESH_SECONDS = 1.0
MAX_ROWS = 40


class SweepTable:
    """Builds a table from the records of a sweep's runs; the record of an ended run is read only once."""

    def __init__(self, sweep: SweepRecord) -> None:
        self.sweep = sweep
        self._ended: dict[str, list[str]] = {}

    def render(self, slots: int | None = None, limit: int | None = MAX_ROWS) -> Table:
        """Build the current table.

        Args:
            slots: number of simultaneous trials, used to estimate the remaining time; `None`: no estimate.
            limit: maximum number of rows; the last rows are shown. `None`: all rows are shown.
        """
        info, runs = self.sweep.info, self.sweep.runs()
        rows = [self._row(run, info) for run in runs]
        counts = {status: sum(row[0] == status for row in rows) for status in STYLES}
        done = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        title = f"sweep {self.sweep.id}: {len(rows)} of {info.num_runs} runs started; {done or 'none yet'}"
        left = _seconds_left(runs, rows, info.num_runs, slots)
        if left:
            title += f"; about {format_duration(left)} left"
        table = Table(title=title, title_justify="left")
        table.add_column("run", no_wrap=True)
        for name in [*info.dimensions, *(["seed"] if info.seeds > 1 else [])]:
            table.add_column(name, overflow="fold")
        table.add_column("step", justify="right")
        table.add_column("train/loss", justify="right")
        for metric in info.metrics:
            table.add_column(metric, justify="right")
        table.add_column("seconds", justify="right")
        table.add_column("status")
        for run, row in list(zip(runs, rows, strict=True))[-limit if limit else 0 :]:
            status, *cells = row
            table.add_row(run.id.removeprefix(f"{self.sweep.id}-"), *cells, Text(status, STYLES.get(status, "")))
        return table

    def _row(self, run: RunRecord, info: SweepInfo) -> list[str]:
        """Return the cells of a run's row in the table; the run's status comes first."""
        if run.id in self._ended:
            return self._ended[run.id]
        manifest = run.manifest
        status = "interrupted" if run.is_process_gone else manifest.status or "running"
        trial = manifest.sweep or SweepEntry()
        values = [_format(trial.values.get(key, "-")) for key in info.dimensions]
        seeds = [str(trial.seed)] if info.seeds > 1 else []
        lines = run.read_metrics()
        step = str(lines[-1]["step"]) if lines else "-"
        losses = [line["train/loss"] for line in lines if "train/loss" in line]
        found = []
        for metric, direction in zip(info.metrics, info.directions, strict=True):
            try:
                found.append(f"{final_value(run, metric, direction):.5g}")
            except InstructLabError:
                found.append("-")
        seconds = manifest.seconds or (lines[-1]["seconds"] if lines else 0.0)
        row = [status, *values, *seeds, step, f"{losses[-1]:.4g}" if losses else "-", *found, f"{seconds:,.0f}"]
        if status in ("finished", "failed", "pruned"):
            self._ended[run.id] = row
        return row


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _seconds_left(runs: list[RunRecord], rows: list[list[str]], total: int, slots: int | None) -> float | None:
    ended = [float(run.manifest.seconds or 0.0) for run, row in zip(runs, rows, strict=True) if row[0] != "running"]
    if slots is None or not ended:
        return None
    return (total - len(ended)) * sum(ended) / len(ended) / slots


class LiveTable:
    """Shows the table while trials run; without a terminal, prints a line for each trial that ends.

    The table is written to a copy of standard error that stays open while the output of trials is redirected.
    """

    def __init__(self, sweep: SweepRecord, console: Any, slots: int) -> None:
        self._table = SweepTable(sweep)
        self._sweep, self._slots = sweep, slots
        self._stream = None
        if sys.__stderr__ is not None:
            self._stream = QuietStream(os.fdopen(os.dup(sys.__stderr__.fileno()), "w"))
        self._console = open_console(file=self._stream or sys.stderr)
        self._live: Live | None = None
        self._out = console

    def __enter__(self) -> LiveTable:
        self._console.print(f"sweep {self._sweep.id} in {self._sweep.path}", soft_wrap=True)
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=lambda: self._table.render(self._slots, max(3, self._console.height - 6)),
                console=self._console,
                refresh_per_second=1 / REFRESH_SECONDS,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def print_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Print how a trial ended, unless the live table shows it."""
        if self._live is None:
            message = f": {outcome.message}" if outcome.message else ""
            self._console.print(f"run {run_id}: {outcome.status}{message}", soft_wrap=True)

    def __exit__(self, *ending: object) -> None:
        if self._live is not None:
            self._live.stop()
        if self._stream is not None:
            self._stream.flush()
            self._stream.close()
        self._out.print(self._table.render(limit=None))


def watch(sweep: SweepRecord, console: Console) -> None:
    """Show a sweep's table until it ends; without a terminal, print it once."""
    table = SweepTable(sweep)
    if not console.is_terminal:
        console.print(table.render(limit=None))
        return
    with Live(table.render(), console=console, auto_refresh=False) as live:
        while sweep.status() == "running":
            time.sleep(REFRESH_SECONDS)
            live.update(table.render(limit=max(3, console.height - 6)), refresh=True)
        live.update(table.render(limit=None), refresh=True)
