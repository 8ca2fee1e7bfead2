"""Trackers, which receive the same values as the run record. If a tracker fails, the run continues.

Input: a run record and its values. Output: the same values in the dashboards that the user has chosen.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.tracker.base import Tracker, TrackerSession
    from instruct_lab.tracker.trackio import Trackio
    from instruct_lab.tracker.wandb import Wandb

__all__ = ["Tracker", "TrackerSession", "Trackio", "Wandb"]

__getattr__ = names_on_demand(__name__)
