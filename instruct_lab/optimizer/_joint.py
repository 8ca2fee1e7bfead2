"""Combine several torch optimizers into one, with one list of parameter groups and one state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch


class Joint(torch.optim.Optimizer):
    """Several optimizers used as one; their parameter groups and states are stored once, in this optimizer.

    Args:
        optimizers: optimizers of disjoint parameters, in the order of their parameter groups.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = list(optimizers)
        self._sizes = [len(optimizer.param_groups) for optimizer in optimizers]
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Give each combined optimizer its groups from this optimizer's list, and the state that all of them share."""
        start = 0
        for optimizer, size in zip(self._optimizers, self._sizes, strict=True):
            optimizer.param_groups = self.param_groups[start : start + size]
            optimizer.state = self.state
            start += size

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self._optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the parameter groups and the state of all optimizers."""
        super().load_state_dict(state_dict)
        self._share()
