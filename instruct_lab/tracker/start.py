"""Start the trackers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instruct_lab.config import ExternalClass
from instruct_lab.config.environment_values import texts_of
from instruct_lab.records.record import RunRecord
from instruct_lab.tracker import lightning
from instruct_lab.tracker.base import GuardedSession, Tracker, TrackerSession
from instruct_lab.tracker.names import group_of, tags_of


def start_trackers(
    chosen: Mapping[str, Tracker | ExternalClass | None],
    record: RunRecord,
    config: dict[str, Any],
    choices: Mapping[str, Any],
) -> dict[str, TrackerSession]:
    """Open a session with each tracker of a run; if a tracker fails, a warning is written, and the run continues.

    Args:
        chosen: the trackers, keyed by their names in the config.
        record: the run's record.
        config: the whole config, resolved.
        choices: the chosen option of each config group; some of them, such as `tuning=lora`, become the run's tags.
    """
    config = texts_of(config)
    tags, group = tags_of(choices), group_of(record, choices)
    sessions: dict[str, TrackerSession] = {}
    for name, tracker in chosen.items():
        if isinstance(tracker, Tracker):
            sessions[name] = tracker.start(record, config, tags, group)
        elif isinstance(tracker, ExternalClass):
            sessions[name] = _start_logger(name, tracker, record, config, tags, group)
    return sessions


def _start_logger(
    name: str, tracker: ExternalClass, record: RunRecord, config: dict[str, Any], tags: list[str], group: str
) -> GuardedSession:
    class_name = tracker.target.rpartition(".")[2]
    return GuardedSession(class_name, lambda: lightning.connect(tracker, name, record, config, tags, group), record.log)
