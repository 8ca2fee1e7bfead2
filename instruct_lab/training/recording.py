"""Sends every logged value to the run record and to the trackers; a tracker that fails never ends the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruct_lab.records import RunRecord
from instruct_lab.tracker.base import TrackerSession


class Recorder:
    """One place that values are logged to.

    Args:
        record: the run's own record.
        sessions: the live trackers, each guarded.
        active: whether this process writes; the other processes of a multi-device run do not.
    """

    def __init__(self, record: RunRecord, sessions: dict[str, TrackerSession], *, active: bool = True) -> None:
        self.record = record
        self.sessions = sessions
        self.active = active

    def log(self, values: dict[str, float], *, step: int, epoch: int) -> None:
        """Append values to `metrics.jsonl` and pass them on."""
        if not self.active:
            return
        self.record.append_metrics(step=step, epoch=epoch, values=values)
        for session in self.sessions.values():
            session.log(values, step=step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Pass a table on; one without rows is none."""
        for session in self.sessions.values() if rows else ():
            session.log_table(name, columns, rows)

    def summarize(self, values: dict[str, Any]) -> None:
        """Pass the final values on."""
        for session in self.sessions.values():
            session.summarize(values)

    def log_weights(self, path: Path) -> None:
        """Pass on the folder of the weights that the run is measured by."""
        for session in self.sessions.values():
            session.log_weights(path)

    def finish(self, exit_code: int) -> None:
        """Close every tracker, whatever happened before."""
        for session in self.sessions.values():
            session.finish(exit_code)
