"""Trackers: dashboards, such as Weights & Biases, that receive every value which is written to the run's record.

Input: a run's record and its values. Output: the same values in the dashboards that the user has chosen. If a tracker
fails, the run continues without it.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.tracker.base import Tracker, TrackerSession
    from instruct_lab.tracker.trackio import Trackio
    from instruct_lab.tracker.wandb import Wandb

__all__ = ["Tracker", "TrackerSession", "Trackio", "Wandb"]

__getattr__ = names_on_demand(__name__)
