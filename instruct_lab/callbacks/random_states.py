"""The states of random generators, stored in checkpoints.

With them, a resumed run draws the numbers that an uninterrupted run would draw.
"""

from __future__ import annotations

import random
from typing import Any

import pytorch_lightning as pl
import torch


class RandomStates(pl.Callback):
    """A callback that saves the states of all random generators in each checkpoint.

    A run that continues from a checkpoint restores them before its first batch.
    """

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the states as types that `torch.load(weights_only=True)` accepts."""
        import numpy

        name, keys, position, has_gauss, cached = numpy.random.get_state()
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else [],
            "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the saved states until the first batch, since Lightning draws random numbers before that batch."""
        self._restored = state_dict

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Restore the states before the first batch of a resumed run."""
        if self._restored is None:
            return
        import numpy

        states, self._restored = self._restored, None
        torch.set_rng_state(states["torch"].cpu())
        if states["cuda"]:
            torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
        name, keys, position, has_gauss, cached = states["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, cached))
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))
