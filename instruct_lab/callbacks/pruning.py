"""Stops a run that the sweep it belongs to gives up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from instruct_lab.training.ending import Pruned

Validated = Callable[[int, dict[str, float]], str | None]
"""Told the logged values at each validation, by step; says why the run stops here, or nothing."""


class StopsWhenPruned(pl.Callback):
    """After each validation, tells the logged values and hears whether the run goes on; for all devices alike.

    Args:
        validated: takes an optimizer step and the values; gives the reason to stop, or none.
    """

    def __init__(self, validated: Validated) -> None:
        self._validated = validated

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stop here, or not.

        Raises:
            Pruned: the run stops.
        """
        reason: str | None = None
        if trainer.is_global_zero:
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            reason = self._validated(trainer.global_step, values)
        if trainer.world_size > 1:
            reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise Pruned(reason)
