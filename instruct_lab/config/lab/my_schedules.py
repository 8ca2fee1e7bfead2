"""A learning-rate schedule of your own: the rate at each optimizer step, as a multiple of the peak learning rate."""

from __future__ import annotations

from instruct_lab.config import component
from instruct_lab.lr_scheduler import LRScheduler, Position


@component
class Steps(LRScheduler):
    """A learning rate that is multiplied by `drop` at each of several points of the training."""

    points: list[float]  # shares of the steps after the warm-up, each between 0 and 1
    drop: float = 0.1  # factor at each of these points

    def after_warmup(self, at: Position) -> float:
        """Return the learning rate at a step after the warm-up, as a multiple of the peak learning rate."""
        return self.drop ** sum(at.progress >= point for point in self.points)
