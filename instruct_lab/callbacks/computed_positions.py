"""Count the positions at which the model computes in training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from instruct_lab.objective.shared_prefix import usable_tree


class ComputedPositions(pl.Callback):
    """Counts the positions of this device's training batches, including padding.

    The attribute `computed` is the number of positions at which the model computed since training started or resumed;
    `saved` is the number of positions that shared prefixes saved.
    """

    def __init__(self) -> None:
        self.computed = self.saved = 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the positions of a batch."""
        tree = usable_tree(pl_module.model, batch)
        saved = 0 if tree is None else tree.num_saved
        self.computed += batch.input_ids.numel() - saved
        self.saved += saved
