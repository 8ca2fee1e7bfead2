"""Launchers decide where trials run, such as in worker processes or on a cluster.

Each module defines one launcher and its session, the object that starts the trials of one sweep.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.sweep.launchers.base import Launcher, Session
    from instruct_lab.sweep.launchers.processes import Processes
    from instruct_lab.sweep.launchers.ray import Ray
    from instruct_lab.sweep.launchers.shared import Shared
    from instruct_lab.sweep.launchers.slurm import Slurm

__all__ = ["Launcher", "Processes", "Ray", "Session", "Shared", "Slurm"]

__getattr__ = names_on_demand(__name__)
