"""The callback that logs each optimizer step before other callbacks run.

So every step that a checkpoint contains is logged before the checkpoint is written.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from instruct_lab.callbacks.base import TrainingModule


class StepLog(pl.Callback):
    """A callback that logs each optimizer step; it must come first, before the callback that writes checkpoints."""

    def __init__(self, module: TrainingModule) -> None:
        self._module = module

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the optimizer step if this batch completed one."""
        self._module.log_step()
