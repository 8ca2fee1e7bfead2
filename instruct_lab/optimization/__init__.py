"""Optimizers, learning-rate schedules and parameter groups.

In: a model's named parameters and the number of optimizer steps. Out: a torch optimizer and a torch schedule.
"""

from instruct_lab.optimization.optimizers import AdamW, Optimizer
from instruct_lab.optimization.schedules import Constant, Cosine, Linear, LRScheduler

__all__ = ["AdamW", "Constant", "Cosine", "LRScheduler", "Linear", "Optimizer"]
