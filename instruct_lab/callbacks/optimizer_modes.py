"""Optimizers that measure other weights than they train, such as schedule-free ones, in their right mode."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from instruct_lab.callbacks.evaluated_weights import EvaluatedWeights


def has_modes(optimizer: Any) -> bool:
    """Whether an optimizer keeps different weights for training and for evaluation."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


class OptimizerModes(EvaluatedWeights):
    """Calls `eval()` of such an optimizer for validation and for kept weights, and `train()` for training.

    Does nothing with other optimizers. Has to stand after the callbacks that keep weights.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Into training mode, where the state that was loaded is not in it."""
        self.take_out(trainer)

    def has_weights(self, trainer: pl.Trainer) -> bool:
        """Whether an optimizer has modes."""
        return any(map(has_modes, trainer.optimizers))

    def put_in(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Into evaluation mode."""
        for optimizer in trainer.optimizers:
            if has_modes(optimizer):
                optimizer.eval()  # type: ignore[attr-defined]

    def take_out(self, trainer: pl.Trainer) -> None:
        """Into training mode."""
        for optimizer in trainer.optimizers:
            if has_modes(optimizer):
                optimizer.train()  # type: ignore[attr-defined]
