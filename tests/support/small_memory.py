"""Supervised training on a device with little memory, which is simulated."""

import os

from instruct_lab.config import component
from instruct_lab.objective import Supervised


@component
class SmallMemory(Supervised):
    """The loss of `Supervised`; memory is exhausted by several examples with too many tokens."""

    tokens: int = 312  # number of tokens, with padding, that fit
    rank: int | None = None  # the rank that has so little memory; null: all

    def loss(self, model, batch, teacher=None):
        """Compute the loss, unless the batch does not fit."""
        is_small = self.rank in (None, int(os.environ.get("LOCAL_RANK", "0")))
        if is_small and batch.num_examples > 1 and batch.input_ids.numel() > self.tokens:
            raise MemoryError(f"{batch.input_ids.numel()} tokens")
        return super().loss(model, batch, teacher)
