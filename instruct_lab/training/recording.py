"""Sends every logged value to the run record and to the trackers; a tracker that fails never ends the run."""

from __future__ import annotations

from typing import Any

from instruct_lab.tracking import RunRecord
from instruct_lab.tracking.base import TrackerSession


class Recorder:
    """One place that values are logged to.

    Args:
        record: the run's own record.
        sessions: the live trackers.
        loggers: Lightning's own loggers.
        active: whether this process writes; the other processes of a multi-device run do not.
    """

    def __init__(
        self,
        record: RunRecord,
        sessions: dict[str, TrackerSession],
        loggers: dict[str, Any],
        active: bool = True,
    ) -> None:
        self.record = record
        self.sessions = sessions
        self.loggers = loggers
        self.active = active
        self._silenced: set[str] = set()

    def log(self, values: dict[str, float], *, step: int, epoch: int) -> None:
        """Append values to `metrics.jsonl` and pass them on."""
        if not self.active:
            return
        self.record.append_metrics(step=step, epoch=epoch, values=values)
        for session in self.sessions.values():
            session.log(values, step=step)
        for name, logger in self.loggers.items():
            if name in self._silenced:
                continue
            try:
                logger.log_metrics(values, step=step)
            except Exception as error:  # whatever a tracker raises, the run goes on
                self._silenced.add(name)
                self.record.log(f"tracker {name} failed and is left out from here on: {error}")

    def finish(self, exit_code: int) -> None:
        """Close every tracker, whatever happened before."""
        for session in self.sessions.values():
            session.finish(exit_code)
        for name, logger in self.loggers.items():
            try:
                logger.finalize("success" if exit_code == 0 else "failed")
            except Exception as error:
                self.record.log(f"tracker {name} failed while closing: {error}")
