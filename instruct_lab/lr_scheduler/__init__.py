"""Learning-rate schedules.

Input: a torch optimizer and the number of optimizer steps. Output: a torch learning-rate scheduler.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.lr_scheduler.schedules import (
        Constant,
        Cosine,
        CosineRestarts,
        InverseSquareRoot,
        Linear,
        LRScheduler,
        Polynomial,
        Position,
        WarmupStableDecay,
    )

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "InverseSquareRoot",
    "LRScheduler",
    "Linear",
    "Polynomial",
    "Position",
    "WarmupStableDecay",
]

__getattr__ = names_on_demand(__name__)
