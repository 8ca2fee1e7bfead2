"""The callback that logs each optimizer step first, so that no checkpoint contains a step that is not yet logged."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from instruct_lab.callbacks.base import TrainingModule


class StepLog(pl.Callback):
    """A callback that logs each optimizer step; it must be the first callback."""

    def __init__(self, module: TrainingModule) -> None:
        self._module = module

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the step, if one ended."""
        self._module.log_step()
