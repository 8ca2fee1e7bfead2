"""The callback that stops a run early when the sweep's pruner decides to end it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from instruct_lab.callbacks.base import OnValidation, Pruned


class StopWhenPruned(pl.Callback):
    """A callback that reports the logged values after each validation, and stops all ranks if the pruner ends the run.

    Args:
        on_validation: function that is called with the optimizer step and the logged values; it returns the reason to
            stop the run, or `None` if the run should continue.
    """

    def __init__(self, on_validation: OnValidation) -> None:
        self._on_validation = on_validation

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Pass the logged values to `on_validation` on the first rank, and stop all ranks if it returns a reason.

        Raises:
            Pruned: the pruner decides that the run should stop.
        """
        reason: str | None = None
        if trainer.is_global_zero:
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            reason = self._on_validation(trainer.global_step, values)
        if trainer.world_size > 1:
            reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise Pruned(reason)
