"""An example of a learning-rate schedule of your own, which gives the learning rate of each optimizer step."""

from __future__ import annotations

from instruct_lab.config import component
from instruct_lab.lr_scheduler import LRScheduler, Position


@component
class Steps(LRScheduler):
    """A learning rate that is multiplied by `drop` at each of several fractions of the training after the warm-up."""

    points: list[float]  # proportions of the steps after the warm-up, each between 0 and 1
    drop: float = 0.1  # factor at each of these points

    def after_warmup(self, at: Position) -> float:
        """Return the learning rate at an optimizer step after the warm-up, as a multiple of the peak learning rate.

        Args:
            at: the step; `at.progress` increases from 0 at the end of the warm-up to 1 at the end of the training.
        """
        return self.drop ** sum(at.progress >= point for point in self.points)
