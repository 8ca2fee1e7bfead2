"""The run record, and the trackers that receive the same values.

In: a run's config and what it logs. Out: a folder that tells everything about the run, readable after a crash at any
byte; and, where the user wants one, the same values in a dashboard. None of our commands needs a tracker to read a run.
"""

from instruct_lab.tracking.base import Tracker, TrackerSession
from instruct_lab.tracking.locate import find_run, list_runs
from instruct_lab.tracking.record import STATUSES, RunRecord
from instruct_lab.tracking.trackio import Trackio
from instruct_lab.tracking.wandb import Wandb

__all__ = ["STATUSES", "RunRecord", "Tracker", "TrackerSession", "Trackio", "Wandb", "find_run", "list_runs"]
