"""Learning-rate schedules: the learning rate at each optimizer step, as a multiple of the peak learning rate."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """An optimizer step after the warm-up, with its position in the run.

    Args:
        step: index of the optimizer step, counted from 0.
        num_steps: number of optimizer steps in the whole run.
        warmup: number of warm-up steps; at most `step`.
    """

    step: int
    num_steps: int
    warmup: int

    @property
    def progress(self) -> float:
        """The fraction of the steps after the warm-up that are completed, in [0, 1]."""
        return min(1.0, (self.step - self.warmup) / max(1, self.num_steps - self.warmup))


@component
class LRScheduler(Component, ABC):
    """Base class of learning-rate schedules, which can begin with a linear warm-up to the peak learning rate."""

    exclusive_fields: ClassVar = (("warmup_steps", "warmup_ratio"),)

    warmup_steps: Annotated[int, Field(ge=0)] | None = None  # number of steps of linear warm-up; not with warmup_ratio
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None  # length of linear warm-up, as a share of all steps

    def __post_init__(self) -> None:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise Refusal("warmup_steps", "excludes warmup_ratio, and both are set: set only one of them")

    @abstractmethod
    def after_warmup(self, at: Position) -> float:
        """Return the learning rate after the warm-up, as a multiple of the peak learning rate."""

    def factor(self, step: int, num_steps: int) -> float:
        """Return the learning rate at an optimizer step, as a multiple of the peak learning rate.

        Args:
            step: index of the optimizer step, counted from 0.
            num_steps: number of optimizer steps in the whole run.
        """
        warmup = self.warmup_steps if self.warmup_steps is not None else math.ceil((self.warmup_ratio or 0) * num_steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return self.after_warmup(Position(step, num_steps, warmup))

    def build(self, optimizer: torch.optim.Optimizer, num_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
        """Build a torch scheduler; call its `step` once after every optimizer step."""
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: self.factor(step, num_steps))


@component
class Constant(LRScheduler):
    """Constant peak learning rate after warm-up."""

    def after_warmup(self, at: Position) -> float:
        """Return 1: the learning rate stays at its peak."""
        return 1.0


@component
class Linear(LRScheduler):
    """Linear decay from the peak learning rate to `min_ratio` times the peak."""

    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # final learning rate, as a share of the peak

    def after_warmup(self, at: Position) -> float:
        """Return the learning rate as a multiple of the peak: it decays linearly from 1 to `min_ratio`."""
        return 1 - (1 - self.min_ratio) * at.progress


@component
class Polynomial(LRScheduler):
    """Polynomial decay to `min_ratio` times the peak learning rate, as (1 - progress)^power; power 1 is `Linear`."""

    power: Annotated[float, Field(gt=0)] = 2.0  # above 1: fastest decay at the start; below 1: fastest decay at the end
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # final learning rate, as a share of the peak

    def after_warmup(self, at: Position) -> float:
        """Return min_ratio + (1 - min_ratio)·(1 - progress)^power, which falls from 1 to `min_ratio`."""
        return self.min_ratio + (1 - self.min_ratio) * (1 - at.progress) ** self.power


@component
class Cosine(LRScheduler):
    """Half-cosine decay to `min_ratio` times the peak learning rate. Source: Loshchilov and Hutter, 2017."""

    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # final learning rate, as a share of the peak

    def after_warmup(self, at: Position) -> float:
        """Return the learning rate as a multiple of the peak: it decays as a half-cosine from 1 to `min_ratio`."""
        return self.min_ratio + (1 - self.min_ratio) * half_cosine(at.progress)


def half_cosine(progress: float) -> float:
    """Return the value of a half-cosine that falls from 1 (at progress 0) to 0 (at progress 1)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


@component
class CosineRestarts(LRScheduler):
    """Several half-cosine decays (cycles), one after the other. Source: Loshchilov and Hutter, 2017 (SGDR).

    At the start of each cycle, the learning rate rises to that cycle's peak at once.
    """

    cycles: Annotated[int, Field(ge=1)] = 3  # number of half-cosine decays in the run
    growth: Annotated[float, Field(gt=0)] = 1.0  # length of each cycle, relative to the previous cycle
    peak_decay: Annotated[float, Field(gt=0, le=1)] = 1.0  # peak of each cycle, relative to the previous peak
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # rate at the end of a cycle, as a share of the first peak

    def __post_init__(self) -> None:
        LRScheduler.__post_init__(self)
        if self.peak_decay ** (self.cycles - 1) < self.min_ratio:
            raise Refusal("peak_decay", f"the peak of the last cycle would be below min_ratio, {self.min_ratio}")

    def after_warmup(self, at: Position) -> float:
        """Return the learning rate as a multiple of the first peak: min_ratio + (peak - min_ratio)·(1 + cos(pi·t)) / 2.

        Here, `peak` is the current cycle's peak divided by the first cycle's peak, and t is the completed fraction of
        the current cycle.
        """
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
    """Decay with the inverse square root of the step number. Source: Vaswani et al., 2017.

    The learning rate is the peak times sqrt(timescale / (timescale + steps since warm-up)). If `timescale` is the
    number of warm-up steps, this is the schedule of the paper. The total number of steps matters only if
    `warmup_ratio` sets the length of the warm-up.
    """

    timescale: Annotated[int, Field(ge=1)] | None = (
        None  # steps after warm-up until the rate is 1/sqrt(2) of the peak; null: number of warm-up steps (at least 1)
    )

    def after_warmup(self, at: Position) -> float:
        """Return the learning rate as a multiple of the peak: sqrt(timescale / (timescale + steps since warm-up))."""
        timescale = self.timescale if self.timescale is not None else max(1, at.warmup)
        return math.sqrt(timescale / (timescale + at.step - at.warmup))


@component
class WarmupStableDecay(LRScheduler):
    """Warm-up, then the constant peak learning rate, then a decay in the last steps. Source: Hu et al., 2024 (MiniCPM).

    The shape of the decay is a function of its progress t in [0, 1]: `1-sqrt` is 1 - sqrt(t) (Hägele et al., 2024),
    `linear` is 1 - t, and `cosine` is (1 + cos(pi·t)) / 2. The decay is scaled to end at `min_ratio`.
    """

    decay_ratio: Annotated[float, Field(ge=0, le=1)] = 0.2  # length of the decay, as a share of all steps
    decay_shape: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"  # shape of the decay
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0  # final learning rate, as a share of the peak

    def __post_init__(self) -> None:
        LRScheduler.__post_init__(self)
        if self.decay_ratio + (self.warmup_ratio or 0) > 1:
            raise Refusal("decay_ratio", f"the sum with warmup_ratio {self.warmup_ratio} is above 1")

    def after_warmup(self, at: Position) -> float:
        """Return the learning rate as a multiple of the peak: 1 until the decay starts, then falling to `min_ratio`."""
        start = max(at.warmup, at.num_steps - math.ceil(self.decay_ratio * at.num_steps))
        if at.step < start:
            return 1.0
        done = min(1.0, (at.step - start) / max(1, at.num_steps - start))
        shapes = {"1-sqrt": 1 - math.sqrt(done), "linear": 1 - done, "cosine": half_cosine(done)}
        return self.min_ratio + (1 - self.min_ratio) * shapes[self.decay_shape]
