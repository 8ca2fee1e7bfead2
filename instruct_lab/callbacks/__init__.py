"""Callbacks of the training loop: checkpoints, the progress line, averages of the weights, pruning.

Input: a component of the config group `callbacks`. Output: a Lightning callback.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.callbacks.base import Callback, Pruned, TrainingModule
    from instruct_lab.callbacks.checkpoint import Checkpoint
    from instruct_lab.callbacks.progress import Progress
    from instruct_lab.callbacks.weight_average import WeightAverage

__all__ = ["Callback", "Checkpoint", "Progress", "Pruned", "TrainingModule", "WeightAverage"]

__getattr__ = names_on_demand(__name__)
