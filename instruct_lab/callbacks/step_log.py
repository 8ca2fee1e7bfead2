"""Logs each optimizer step before any other callback sees its end, so that a checkpoint never precedes its log line."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from instruct_lab.training.module import TuningModule


class StepLog(pl.Callback):
    """Stands first among the callbacks."""

    def __init__(self, module: TuningModule) -> None:
        self._module = module

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the step."""
        self._module.log_step()
