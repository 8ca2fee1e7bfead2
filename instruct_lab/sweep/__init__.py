"""Sweeps: many runs of one config with different options, values and seeds.

Input: a base config, a search space in Hydra's syntax, a sampler, a pruner and a launcher. A point is a combination of
values from the search space. Output: one run record for each point and seed, and beside them the sweep's own folder
(`sweep.json`, `optuna.db`, the output of each trial). A sweep that was killed can be resumed; the runs that had not
finished then continue from their last checkpoints.
"""

import sys
from typing import TYPE_CHECKING

from instruct_lab import CallablePackage
from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.sweep.launchers import Launcher, Processes, Ray, Shared, Slurm
    from instruct_lab.sweep.pruners import Hyperband, Median, NoPruner, Pruner, SuccessiveHalving
    from instruct_lab.sweep.samplers import CMAES, NSGA2, TPE, GaussianProcess, Grid, Random, Sampler
    from instruct_lab.sweep.settings import Sweep

__all__ = [
    "CMAES",
    "NSGA2",
    "TPE",
    "GaussianProcess",
    "Grid",
    "Hyperband",
    "Launcher",
    "Median",
    "NoPruner",
    "Processes",
    "Pruner",
    "Random",
    "Ray",
    "Sampler",
    "Shared",
    "Slurm",
    "SuccessiveHalving",
    "Sweep",
]

sys.modules[__name__].__class__ = CallablePackage  # `instruct_lab.sweep([...])` runs a sweep, see `instruct_lab.api`

__getattr__ = names_on_demand(__name__)
