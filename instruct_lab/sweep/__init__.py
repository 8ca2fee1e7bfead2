"""Sweeps: many runs of one config with some choices varied; sampled, pruned, launched, continued and shown.

In: a base config, a search space in Hydra's syntax, a sampler, a pruner and a launcher. Out: one run record for each
point and seed, and the sweep's own folder beside them (`sweep.json`, `optuna.db`, each trial's output). Whatever kills
a sweep, what was done is kept: it goes on with the trial it was in, from that run's last written state.
"""

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
