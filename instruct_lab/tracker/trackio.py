"""The tracker trackio, a local dashboard that stores its data below `runs/`; `instruct-lab dashboard` opens it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.optional_packages import missing_packages
from instruct_lab.records.schema import AUDIT, Summary
from instruct_lab.tracker.base import Tracker, TrackerSession, short_path
from instruct_lab.tracker.names import options_of, title_of
from instruct_lab.tracker.values import (
    audit_reasons_table,
    estimates_of,
    final_values,
    flat_config,
    predictions_table,
    results_table,
    tracker_names,
    without_intervals,
)

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord
    from instruct_lab.tracker.trackio_store import StoredRun

FOLDER = "trackio"
"""trackio's folder inside the folder of all runs."""
WRITE_SECONDS = 1.0
"""Minimum time between two writes to disk; values that arrive earlier wait for the next write."""


@component
class Trackio(Tracker):
    """A local dashboard that shows curves, final values, predictions and settings, and is updated during the run.

    All runs share one SQLite file in `<runs_path>/trackio`. Nothing leaves this machine. `instruct-lab dashboard` also
    shows runs that used other trackers, because it imports every run from its record.
    """

    project: str = "instruct-lab"  # the project that runs are listed under
    group: str | None = None  # the group that runs are listed under; null: the study or sweep

    def problems(self) -> Iterator[Problem]:
        """Report a problem if trackio is not installed."""
        yield from missing_packages("trackio", subject="Trackio")

    def connect(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Open a session for a run; for a resumed run, the record replaces what trackio has stored of the run."""
        run = self._stored_run(record)
        run.begin(
            {**flat_config(config), **options_of(record.manifest.choices)}, self.group or group, _start_time(record)
        )
        _add_lines(run, record)
        return TrackioSession(run, f"see it: instruct-lab dashboard --runs {short_path(record.path.parent.parent)}")

    def import_run(self, record: RunRecord, group: str, stamp: str) -> bool:
        """Store a run from its record, even if the run used another tracker.

        Args:
            record: the run's record.
            group: the study or sweep that the run belongs to.
            stamp: text that changes with the record; a run that was last imported with this text is skipped.

        Returns:
            Whether the run was imported.
        """
        run = self._stored_run(record)
        if run.stamp == stamp:
            return False
        options = options_of(record.manifest.choices)
        settings = {"status": record.status_text, **flat_config(record.config), **options}
        run.begin(settings, self.group or group, _start_time(record), stamp)
        step, at = _add_lines(run, record)
        summary = record.summary or Summary()  # a failed run has no summary, but is listed too
        tables = {
            "audit": audit_reasons_table(record.read_json(AUDIT) or {}),
            "results": results_table(summary),
            "predictions": predictions_table(record.read_predictions()),
        }
        for name, (columns, rows) in tables.items():
            if rows:
                run.add_table(name, columns, rows, step, at)
        run.add(without_intervals(final_values(summary)), step, at)
        run.write()
        return True

    def _stored_run(self, record: RunRecord) -> StoredRun:
        from instruct_lab.tracker.trackio_store import StoredRun

        return StoredRun(record.path.parent.parent / FOLDER, self.project, record.id, title_of(record))


class TrackioSession(TrackerSession):
    """The connection of a run to trackio.

    Args:
        run: the object that writes the run to trackio's files.
        hint: the line that says how to view the run.
    """

    def __init__(self, run: StoredRun, hint: str) -> None:
        self.run, self.hint = run, hint
        self.step = 0
        self.written = 0.0

    def log(self, values: dict[str, float], step: int) -> None:
        """Store values measured at an optimizer step; they are written to disk at most once a second."""
        self.step = step
        self.run.add(values, step, datetime.now(UTC))
        if time.monotonic() - self.written >= WRITE_SECONDS:
            self._write()

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write a table at the step of the last stored values."""
        self.run.add_table(name, columns, rows, self.step, datetime.now(UTC))
        self._write()

    def summarize(self, values: dict[str, Any]) -> None:
        """Write the run's final values, without their confidence intervals, at the step of the last stored values."""
        self.run.add(without_intervals(values), self.step, datetime.now(UTC))
        self._write()

    def finish(self, exit_code: int) -> None:
        """Write the values that are not yet on disk. The dashboard reads the run's status from the record."""
        self._write()

    def where(self) -> str | None:
        """Return the line that says how to view the run."""
        return self.hint

    def _write(self) -> None:
        self.run.write()
        self.written = time.monotonic()


def _start_time(record: RunRecord) -> datetime:
    started = record.manifest.started
    if started is None:
        raise InstructLabError("The record does not say when the run started", where=str(record.path))
    return datetime.fromisoformat(started)


def _add_lines(run: StoredRun, record: RunRecord) -> tuple[int, datetime]:
    """Add the values in the record's `metrics.jsonl` to the stored run.

    Returns:
        The step of the last line, and the time at which it was written.
    """
    started = _start_time(record)
    step, at = 0, started
    estimates = estimates_of(record.config)
    for line in record.read_metrics():
        step, at = int(line.pop("step")), started + timedelta(seconds=float(line.pop("seconds", 0.0)))
        line.pop("epoch", None)
        run.add(tracker_names(line, estimates), step, at)
    return step, at
