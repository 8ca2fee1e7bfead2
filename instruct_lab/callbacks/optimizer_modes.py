"""Support for optimizers whose evaluation weights differ from the trained ones, such as schedule-free optimizers."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from instruct_lab.callbacks.evaluated_weights import EvaluatedWeights


def has_modes(optimizer: Any) -> bool:
    """Whether an optimizer can switch the model between training weights and evaluation weights."""
    return callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None))


class OptimizerModes(EvaluatedWeights):
    """A callback that switches optimizers to evaluation mode for validation and at the end of training.

    After a validation, it switches them back to training mode. It calls the optimizer's methods `eval()` and `train()`,
    and does nothing for optimizers without these two methods. It must come after the callbacks that write weights,
    since these need the evaluation weights.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Switch the optimizers to training mode, since a loaded optimizer state may be in evaluation mode."""
        self.before_restore(trainer)

    def has_weights(self, trainer: pl.Trainer) -> bool:
        """Whether an optimizer has separate weights for evaluation."""
        return any(map(has_modes, trainer.optimizers))

    def swap_in(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Switch the optimizers to evaluation mode."""
        for optimizer in trainer.optimizers:
            if has_modes(optimizer):
                optimizer.eval()  # type: ignore[attr-defined]

    def before_restore(self, trainer: pl.Trainer) -> None:
        """Switch the optimizers to training mode."""
        for optimizer in trainer.optimizers:
            if has_modes(optimizer):
                optimizer.train()  # type: ignore[attr-defined]
