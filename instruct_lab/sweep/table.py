"""Show a sweep as a table in the terminal, while the sweep runs and at its end."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from instruct_lab.pages.text_columns import TextColumn, lay_out
from instruct_lab.progress import Stage, format_seconds
from instruct_lab.progress.reporter import Reporter
from instruct_lab.records.labels import Label, label_runs, label_typed
from instruct_lab.records.runs_table import STYLES
from instruct_lab.streams import QuietStream
from instruct_lab.sweep.record import SweepInfo, SweepRecord
from instruct_lab.sweep.task import Outcome
from instruct_lab.sweep.trial_row import ENDED, TrialRow, read_trial
from instruct_lab.terminal import open_console

REFRESH_SECONDS = 1.0
MAX_ROWS = 40
NUM_OTHER_LINES = 8
"""Number of lines of the terminal that are not used for trials."""
LABEL_WIDTH = 14
BEST_MARK = "*"


class SweepTable:
    """The table of a sweep, built from the records of its runs; after a run has ended, its record is read only once."""

    def __init__(self, sweep: SweepRecord) -> None:
        self.sweep = sweep
        self._ended: dict[str, TrialRow] = {}
        self._labelled: tuple[tuple[str, ...], list[Label]] = ((), [])

    def rows(self) -> list[TrialRow]:
        """Read the rows of the trials that have started, in the order of the trials' ids."""
        info, ids = self.sweep.info, self.sweep.run_ids()
        unknown = self.sweep.runs(run_id for run_id in ids if run_id not in self._ended)
        read = {run.id: read_trial(run, info) for run in unknown}
        self._ended |= {run_id: row for run_id, row in read.items() if row.status in ENDED}
        known = self._ended | read
        return [known[run_id] for run_id in ids if run_id in known]

    def labels(self, rows: Sequence[TrialRow]) -> list[Label]:
        """Return a label for each trial, which names what differs from the other trials, such as `r=8`.

        The label of a single trial names the options and values that were set for it.
        """
        ids = tuple(row.id for row in rows)
        if ids != self._labelled[0]:
            settings = [row.settings for row in rows]
            self._labelled = ids, [label_typed(settings[0])] if len(settings) == 1 else label_runs(settings)
        return self._labelled[1]

    def render(self, width: int, slots: int | None = None, limit: int | None = MAX_ROWS) -> Group:
        """Build the current table: the progress of the sweep, the best point so far, and a line for each trial.

        A point is a combination of settings; its trials differ only in the seed.

        Args:
            width: width of the terminal.
            slots: number of simultaneous trials, used to estimate the remaining time; `None`: as many as run now.
            limit: maximum number of trials to show; `None`: all. Finished trials of the best point take precedence,
                then trials that have not ended, then the newest.
        """
        info, rows = self.sweep.info, self.rows()
        labels, best = self.labels(rows), best_point(rows, info)
        shown = _visible_rows(rows, best, limit)
        lines = [Text(line, style="bold") for line in self._title(rows, info, slots, width)]
        if best is not None:
            lines.append(Text(self._best_line(best, rows, labels), style="green"))
        lines += lay_out(_columns(self.sweep, info, rows, labels, best, shown), width)[0]
        if len(shown) < len(rows):
            lines.append(Text(f"and {len(rows) - len(shown)} more trials that have ended", style="dim"))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines)

    def describe(self, run_id: str) -> str:
        """Return a line on a trial: its label, its value of the sweep's first metric, and whether its point is best.

        A point is a combination of settings; its trials differ only in the seed.
        """
        info, rows = self.sweep.info, self.rows()
        index = next((index for index, row in enumerate(rows) if row.id == run_id), None)
        if index is None:
            return ""
        parts = [str(self.labels(rows)[index])]
        best, value = best_point(rows, info), rows[index].values[0] if rows[index].values else None
        if value is not None and rows[index].status == "finished":
            parts.append(f"{info.metrics[0]} {value:.5g}")
        if best is not None and best.point == rows[index].point:
            parts.append("the best so far")
        return ", ".join(filter(None, parts))

    def _title(self, rows: Sequence[TrialRow], info: SweepInfo, slots: int | None, width: int) -> list[str]:
        counts = Counter(row.status for row in rows)
        done = ", ".join(f"{counts[status]} {status}" for status in STYLES if counts[status])
        title = f"{len(rows)} of {info.num_runs} runs started; {done or 'none yet'}"
        left = seconds_left(rows, info.num_runs, slots)
        if left:
            title += f"; about {format_seconds(left)} left"
        name = f"sweep {self.sweep.id}"
        return [f"{name}: {title}"] if len(name) + len(title) + 2 <= width else [name, title]

    def _best_line(self, best: BestPoint, rows: Sequence[TrialRow], labels: Sequence[Label]) -> str:
        index = next(index for index, row in enumerate(rows) if row.point == best.point)
        runs = f", mean of {best.num_runs} runs" if best.num_runs > 1 else ""
        label = " ".join(part for part in labels[index].parts if best.num_runs == 1 or not part.startswith("seed="))
        name = label or rows[index].id.removeprefix(f"{self.sweep.id}-")
        return f"best so far: {name}, {self.sweep.info.metrics[0]} {best.value:.5g}{runs}"


@dataclasses.dataclass(frozen=True)
class BestPoint:
    """The point (combination of settings, without the seed) of a sweep whose runs have the best mean value so far.

    Args:
        point: index of the point.
        value: mean value of the sweep's first metric over the point's finished runs.
        num_runs: number of these runs.
    """

    point: int
    value: float
    num_runs: int


def best_point(rows: Sequence[TrialRow], info: SweepInfo) -> BestPoint | None:
    """Return the point whose finished runs have the best mean value of the sweep's first metric.

    A point is a combination of settings; its runs differ only in the seed. The result is `None` if no run has finished
    with a finite value.
    """
    found: dict[int, list[float]] = {}
    for row in rows:
        value = row.values[0] if row.values else None
        if row.status == "finished" and value is not None and math.isfinite(value):
            found.setdefault(row.point, []).append(value)
    if not found:
        return None
    means = {point: statistics.fmean(values) for point, values in found.items()}
    choose = min if info.directions[:1] == ["minimize"] else max
    point = choose(means, key=lambda point: means[point])
    return BestPoint(point, means[point], len(found[point]))


def seconds_left(rows: Sequence[TrialRow], total: int, slots: int | None) -> float | None:
    """Estimate the remaining seconds from the mean duration of the runs that have ended.

    Args:
        rows: the runs that have started.
        total: number of runs of the sweep.
        slots: number of simultaneous runs; `None`: as many as run now.

    Returns:
        The seconds; `None` if no run has ended, or if `slots` is `None` and no run is running.
    """
    ended = [row.seconds for row in rows if row.status in ENDED]
    running = [row.seconds for row in rows if row.status == "running"]
    if not ended or (slots is None and not running):
        return None
    mean = statistics.fmean(ended)
    waiting = (total - len(ended) - len(running)) * mean + sum(max(0.0, mean - seconds) for seconds in running)
    return waiting / (slots or len(running))


def _visible_rows(rows: Sequence[TrialRow], best: BestPoint | None, limit: int | None) -> list[int]:
    """Return the indices of the rows to show, in ascending order.

    If there are more than `limit` rows, finished trials of the best point (combination of settings) are chosen first,
    then trials that have not ended, then the newest trials. With `limit=None`, all rows are shown.
    """
    indices = range(len(rows))
    if limit is None or len(rows) <= limit:
        return list(indices)
    order = sorted(indices, key=lambda index: (not _is_best(rows[index], best), rows[index].status in ENDED, -index))
    return sorted(order[:limit])


def _is_best(row: TrialRow, best: BestPoint | None) -> bool:
    return best is not None and row.point == best.point and row.status == "finished"


def _columns(
    sweep: SweepRecord,
    info: SweepInfo,
    rows: Sequence[TrialRow],
    labels: Sequence[Label],
    best: BestPoint | None,
    shown: Sequence[int],
) -> list[TextColumn]:
    chosen = [rows[index] for index in shown]
    marks = [BEST_MARK if _is_best(row, best) else " " for row in chosen]
    names = [f"{mark}{row.id.removeprefix(f'{sweep.id}-')}" for mark, row in zip(marks, chosen, strict=True)]
    texts = [str(labels[index]) for index in shown]
    columns = [
        TextColumn(" run", names),
        TextColumn("status", [row.status for row in chosen], styles=[STYLES.get(row.status, "") for row in chosen]),
    ]
    if any(texts):
        fit = lambda row, size: labels[shown[row]].fit(size)  # noqa: E731
        columns.append(TextColumn("what differs", texts, fit=fit, min_width=LABEL_WIDTH))
    for number, metric in enumerate(info.metrics):
        cells = [_format_number(row.values[number], 5) for row in chosen]
        columns.append(TextColumn(metric, cells, rank=2 * number, is_right=True))
    if any(row.activity for row in chosen):
        columns.append(TextColumn("now", [row.activity for row in chosen], rank=1))
    return [
        *columns,
        TextColumn("train/loss", [_format_number(row.loss, 4) for row in chosen], rank=4, is_right=True),
        TextColumn("step", ["-" if row.step is None else str(row.step) for row in chosen], rank=5, is_right=True),
        TextColumn("time", [format_seconds(row.seconds) for row in chosen], rank=3, is_right=True),
    ]


def _format_number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}g}"


class LiveTable:
    """Displays a sweep while its trials run, and prints the final table at its end.

    In a terminal, it redraws a table. If the output is not a terminal, it prints lines with the progress and with the
    result of each trial. Both go to a copy of standard error, because standard error itself can be redirected to a file
    while a trial runs.

    Args:
        sweep: the record of the sweep.
        console: console on which the final table is printed.
        slots: number of simultaneous trials.
    """

    def __init__(self, sweep: SweepRecord, console: Any, slots: int) -> None:
        self._table = SweepTable(sweep)
        self._sweep, self._slots = sweep, slots
        self._stream = None
        if sys.__stderr__ is not None:
            self._stream = QuietStream(os.fdopen(os.dup(sys.__stderr__.fileno()), "w"))
        self._console = open_console(file=self._stream or sys.stderr)
        self._live: Live | None = None
        self._reporter = Reporter(self._stream or sys.stderr, is_announced=False)  # type: ignore[arg-type]
        self._runs = Stage("running the sweep", sweep.info.num_runs, "run")
        self._out = console

    def __enter__(self) -> LiveTable:
        self._console.print(f"sweep {self._sweep.id} in {self._sweep.path}", soft_wrap=True)
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=lambda: self._table.render(
                    self._console.width, self._slots, max(3, self._console.height - NUM_OTHER_LINES)
                ),
                console=self._console,
                refresh_per_second=1 / REFRESH_SECONDS,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        else:
            self._runs.start_at(sum(run.manifest.status in ENDED for run in self._sweep.runs()))
            self._reporter.open(self._runs)
        return self

    def print_outcome(self, run_id: str, outcome: Outcome) -> None:
        """Print a line that says how a trial ended; do nothing in a terminal, where the table shows it."""
        self._runs.advance()
        if self._live is None:
            details = self._table.describe(run_id) if outcome.status == "finished" else outcome.message
            self._console.print(f"run {run_id}: {outcome.status}{f': {details}' if details else ''}", soft_wrap=True)

    def __exit__(self, *ending: object) -> None:
        self._reporter.end()
        if self._live is not None:
            self._live.stop()
        if self._stream is not None:
            self._stream.flush()
            self._stream.close()
        self._out.print(self._table.render(self._out.width, limit=None))


def watch(sweep: SweepRecord, console: Console) -> None:
    """Show the table of a sweep and redraw it until the sweep ends; outside a terminal, print it once.

    The sweep runs in another process.
    """
    table = SweepTable(sweep)
    if not console.is_terminal:
        console.print(table.render(console.width, limit=None))
        return
    with Live(table.render(console.width), console=console, auto_refresh=False) as live:
        while sweep.status() == "running":
            time.sleep(REFRESH_SECONDS)
            rows = max(3, console.height - NUM_OTHER_LINES)
            live.update(table.render(console.width, limit=rows), refresh=True)
        live.update(table.render(console.width, limit=None), refresh=True)
