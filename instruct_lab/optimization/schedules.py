"""Learning-rate schedules: a factor of the peak rate for each optimizer step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

if TYPE_CHECKING:
    import torch


@component
class LRScheduler(Component, ABC):
    """A warm-up from 0 to the peak rate, then the schedule's own course."""

    warmup_steps: Annotated[int, Field(ge=0)] | None = None  # optimizer steps of linear warm-up
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None  # the same as a share of all steps

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise Refusal("warmup_steps", "give warmup_steps or warmup_ratio, not both: set the other to null")

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """The factor of the peak rate at a progress in [0, 1] of the steps after warm-up."""

    def factor(self, step: int, num_steps: int) -> float:
        """The factor of the peak rate for the optimizer step with this index, from 0, of `num_steps`."""
        warmup = self.warmup_steps if self.warmup_steps is not None else math.ceil((self.warmup_ratio or 0) * num_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.after_warmup(min(1.0, (step - warmup) / max(1, num_steps - warmup)))

    def build(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """A torch schedule, to be stepped once after every optimizer step."""
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: self.factor(step, num_steps))


@component
class Constant(LRScheduler):
    """The peak rate throughout."""

    def after_warmup(self, progress: float) -> float:
        """Always 1."""
        return 1.0


@component
class Linear(LRScheduler):
    """A straight line from the peak rate down to `min_ratio` of it."""

    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # the last step's factor

    def after_warmup(self, progress: float) -> float:
        """From 1 to `min_ratio`, linearly."""
        return 1 - (1 - self.min_ratio) * progress


@component
class Cosine(LRScheduler):
    """Half a cosine from the peak rate down to `min_ratio` of it. Source: Loshchilov and Hutter, 2017."""

    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # the last step's factor

    def after_warmup(self, progress: float) -> float:
        """From 1 to `min_ratio`, along half a cosine."""
        return self.min_ratio + (1 - self.min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
