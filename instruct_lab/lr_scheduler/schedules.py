"""Learning-rate schedules: a factor of the peak rate for each optimizer step."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """The position of a step in a run whose warm-up has ended.

    Args:
        step: index of the optimizer step, from 0.
        num_steps: of the whole run.
        warmup: steps of warm-up, at most `step`.
    """

    step: int
    num_steps: int
    warmup: int

    @property
    def progress(self) -> float:
        """Share of the steps after warm-up that are finished, in [0, 1]."""
        return min(1.0, (self.step - self.warmup) / max(1, self.num_steps - self.warmup))


@component
class LRScheduler(Component, ABC):
    """A linear warm-up from 0 to the peak rate, then the schedule."""

    warmup_steps: Annotated[int, Field(ge=0)] | None = None  # optimizer steps of linear warm-up
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None  # the same, as a share of all optimizer steps

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise Refusal("warmup_steps", "excludes warmup_ratio: set one of both to null")

    @abstractmethod
    def after_warmup(self, at: Position) -> float:
        """The factor of the peak rate after warm-up."""

    def factor(self, step: int, num_steps: int) -> float:
        """The factor of the peak rate for the optimizer step with this index, from 0, of `num_steps`."""
        warmup = self.warmup_steps if self.warmup_steps is not None else math.ceil((self.warmup_ratio or 0) * num_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.after_warmup(Position(step, num_steps, warmup))

    def build(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """A torch schedule, to be stepped once after every optimizer step."""
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: self.factor(step, num_steps))


@component
class Constant(LRScheduler):
    """The peak rate throughout."""

    def after_warmup(self, at: Position) -> float:
        """Always 1."""
        return 1.0


@component
class Linear(LRScheduler):
    """A straight line from the peak rate down to `min_ratio` of it."""

    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # the last step's factor

    def after_warmup(self, at: Position) -> float:
        """From 1 to `min_ratio`, linearly."""
        return 1 - (1 - self.min_ratio) * at.progress


@component
class Polynomial(LRScheduler):
    """From the peak rate down to `min_ratio` of it along (1 - progress)^power; power 1 is `Linear`."""

    power: Annotated[float, Field(gt=0)] = 2.0  # above 1 falls fast at first, below 1 at the end
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # the last step's factor

    def after_warmup(self, at: Position) -> float:
        """min_ratio + (1 - min_ratio)·(1 - progress)^power."""
        return self.min_ratio + (1 - self.min_ratio) * (1 - at.progress) ** self.power


@component
class Cosine(LRScheduler):
    """Half a cosine from the peak rate down to `min_ratio` of it. Source: Loshchilov and Hutter, 2017."""

    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # the last step's factor

    def after_warmup(self, at: Position) -> float:
        """From 1 to `min_ratio`, along half a cosine."""
        return self.min_ratio + (1 - self.min_ratio) * half_cosine(at.progress)


def half_cosine(progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


@component
class CosineRestarts(LRScheduler):
    """Several half cosines, each from the peak rate again. Source: Loshchilov and Hutter, 2017 (SGDR)."""

    cycles: Annotated[int, Field(ge=1)] = 3  # half cosines in the run
    growth: Annotated[float, Field(gt=0)] = 1.0  # length of each cycle divided by that of the previous one
    peak_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # peak of each cycle divided by that of the previous one
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # the factor at the end of each cycle

    def __post_init__(self) -> None:
        LRScheduler.__post_init__(self)
        if self.peak_decay ** (self.cycles - 1) < self.min_ratio:
            raise Refusal("peak_decay", f"the peak of the last cycle would be below min_ratio, {self.min_ratio}")

    def after_warmup(self, at: Position) -> float:
        """min_ratio + (peak - min_ratio)·(1 + cos(pi · progress within the cycle)) / 2."""
        lengths = [self.growth**cycle for cycle in range(self.cycles)]
        done = at.progress * sum(lengths)
        cycle = 0
        while cycle < self.cycles - 1 and done >= lengths[cycle] - 1e-9:
            done -= lengths[cycle]
            cycle += 1
        within = min(1.0, max(0.0, done / lengths[cycle]))
        return self.min_ratio + (self.peak_decay**cycle - self.min_ratio) * half_cosine(within)


@component
class InverseSquareRoot(LRScheduler):
    """The peak rate, then falling with the inverse square root of the steps. Source: Vaswani et al., 2017.

    sqrt(timescale / (timescale + steps since warm-up)); with the warm-up as timescale it is the schedule of the paper.
    It does not depend on the number of steps.
    """

    timescale: Annotated[int, Field(ge=1)] | None = (
        None  # steps after warm-up until the square of the rate has halved; null: as many as the warm-up (at least 1)
    )

    def after_warmup(self, at: Position) -> float:
        """sqrt(timescale / (timescale + steps since warm-up))."""
        timescale = self.timescale if self.timescale is not None else max(1, at.warmup)
        return math.sqrt(timescale / (timescale + at.step - at.warmup))


@component
class WarmupStableDecay(LRScheduler):
    """Warm-up, the peak rate, and a decay over the last share of the steps. Source: Hu et al., 2024 (MiniCPM).

    With t in [0, 1] the progress of the decay, `1-sqrt` is 1 - sqrt(t) (Hägele et al., 2024), `linear` 1 - t, `cosine`
    (1 + cos(pi·t)) / 2; scaled so that it ends at `min_ratio`.
    """

    decay_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2  # share of all steps that decay, at the end
    decay_shape: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"  # shape of the decay
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # the last step's factor

    def __post_init__(self) -> None:
        LRScheduler.__post_init__(self)
        if self.decay_ratio + (self.warmup_ratio or 0) > 1:
            raise Refusal("decay_ratio", f"the sum with warmup_ratio {self.warmup_ratio} is above 1")

    def after_warmup(self, at: Position) -> float:
        """1, then the decay to `min_ratio`."""
        start = max(at.warmup, at.num_steps - math.ceil(self.decay_ratio * at.num_steps))
        if at.step < start:
            return 1.0
        done = min(1.0, (at.step - start) / max(1, at.num_steps - start))
        shapes = {"1-sqrt": 1 - math.sqrt(done), "linear": 1 - done, "cosine": half_cosine(done)}
        return self.min_ratio + (1 - self.min_ratio) * shapes[self.decay_shape]
