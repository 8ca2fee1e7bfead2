"""Trackers, which receive the same values as the run record. If a tracker fails, the run continues.

In: a run record and its values. Out: the same values in the dashboards that the user has chosen.
"""

from instruct_lab.tracker.base import Tracker, TrackerSession
from instruct_lab.tracker.trackio import Trackio
from instruct_lab.tracker.wandb import Wandb

__all__ = ["Tracker", "TrackerSession", "Trackio", "Wandb"]
