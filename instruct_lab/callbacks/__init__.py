"""What runs beside the training loop: checkpoints, progress, averages of the weights, pruning.

In: a component of the config. Out: a Lightning callback.
"""

from instruct_lab.callbacks.components import Callback, Checkpoint, Progress

__all__ = ["Callback", "Checkpoint", "Progress"]
