"""Optimizers, learning-rate schedules and parameter groups.

In: a model's named parameters and the number of optimizer steps. Out: a torch optimizer and a torch schedule.
"""

from instruct_lab.optimization.base import Optimizer
from instruct_lab.optimization.matrix_optimizers import GaLore, Muon
from instruct_lab.optimization.optimizers import Adafactor, AdamW, Lion, ScheduleFreeAdamW
from instruct_lab.optimization.quantized import QuantizedAdamW
from instruct_lab.optimization.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    InverseSquareRoot,
    Linear,
    LRScheduler,
    Polynomial,
    WarmupStableDecay,
)

__all__ = [
    "Adafactor",
    "AdamW",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "GaLore",
    "InverseSquareRoot",
    "LRScheduler",
    "Linear",
    "Lion",
    "Muon",
    "Optimizer",
    "Polynomial",
    "QuantizedAdamW",
    "ScheduleFreeAdamW",
    "WarmupStableDecay",
]
