"""Send every value that a run measures to the run's record and to the trackers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruct_lab.records import RunRecord
from instruct_lab.tracker.base import TrackerSession
from instruct_lab.tracker.values import estimates_of, tracker_names


class Recorder:
    """Sends the values that a run measures to the run's record and to every tracker.

    Args:
        record: the run's record; a `ReadOnlyRecord` on all ranks but the first of a multi-device run.
        sessions: the run's connection to each tracker, keyed by the tracker's name in the config.
    """

    def __init__(self, record: RunRecord, sessions: dict[str, TrackerSession]) -> None:
        self.record = record
        self.sessions = sessions

    @functools.cached_property
    def _estimates(self) -> frozenset[str]:
        return estimates_of(self.record.config)

    def log(self, values: dict[str, float], *, step: int, epoch: int) -> None:
        """Append values to `metrics.jsonl`, and send them to the trackers.

        Values that are estimated from a few answers are sent to trackers under a name with the suffix `_estimate`.
        """
        self.record.append_metrics(step=step, epoch=epoch, values=values)
        for session in self.sessions.values():
            session.log(tracker_names(values, self._estimates), step=step)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table to the trackers; a table without rows is not sent."""
        for session in self.sessions.values() if rows else ():
            session.log_table(name, columns, rows)

    def summarize(self, values: dict[str, Any]) -> None:
        """Send the values measured at the end of the run to the trackers."""
        for session in self.sessions.values():
            session.summarize(values)

    def log_weights(self, path: Path) -> None:
        """Send the folder with the evaluated weights to the trackers."""
        for session in self.sessions.values():
            session.log_weights(path)

    def finish(self, exit_code: int) -> None:
        """Close the run in every tracker.

        Args:
            exit_code: 0 if the run finished or was pruned, 1 if it failed, above 128 if a signal stopped it.
        """
        for session in self.sessions.values():
            session.finish(exit_code)
