"""Send every logged value to the run record and to the trackers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruct_lab.records import RunRecord
from instruct_lab.tracker.base import TrackerSession
from instruct_lab.tracker.values import estimates_of, tracker_names


class Recorder:
    """Sends the values that a run logs to the run record and to every tracker.

    Args:
        record: the run's record; a `ReadOnlyRecord` on all ranks but the first of a multi-device run.
        sessions: the tracker sessions by name.
    """

    def __init__(self, record: RunRecord, sessions: dict[str, TrackerSession]) -> None:
        self.record = record
        self.sessions = sessions

    @functools.cached_property
    def _estimates(self) -> frozenset[str]:
        return estimates_of(self.record.config)

    def log(self, values: dict[str, float], *, step: int, epoch: int) -> None:
        """Append values to `metrics.jsonl`, and send them to the trackers under the names from `tracker_names`."""
        self.record.append_metrics(step=step, epoch=epoch, values=values)
        for session in self.sessions.values():
            session.log(tracker_names(values, self._estimates), step=step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table to the trackers, unless it has no rows."""
        for session in self.sessions.values() if rows else ():
            session.log_table(name, columns, rows)

    def summarize(self, values: dict[str, Any]) -> None:
        """Send the final values to the trackers."""
        for session in self.sessions.values():
            session.summarize(values)

    def log_weights(self, path: Path) -> None:
        """Send the folder of the evaluated weights to the trackers."""
        for session in self.sessions.values():
            session.log_weights(path)

    def finish(self, exit_code: int) -> None:
        """Close every tracker."""
        for session in self.sessions.values():
            session.finish(exit_code)
