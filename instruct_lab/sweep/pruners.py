"""Pruners: which trials are stopped early, judged by their validation values so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

Steps = Annotated[int, Field(ge=1)]


class Pruner(Component, ABC):
    """Decides at each validation whether a trial goes on; a pruned run keeps its record, with the status `pruned`."""

    prunes: ClassVar[bool] = True
    """Whether any trial may be stopped."""

    @abstractmethod
    def build(self) -> Any:
        """Optuna's pruner."""


@component
class NoPruner(Pruner):
    """Every trial runs to its end."""

    prunes: ClassVar = False

    def build(self) -> Any:
        """Optuna's pruner that stops nothing."""
        from optuna.pruners import NopPruner

        return NopPruner()


@component
class Median(Pruner):
    """Stops a trial that is worse than the median of those before it at the same step (Golovin et al., 2017)."""

    first_trials: Annotated[int, Field(ge=0)] = 4  # trials that are never stopped
    first_steps: Annotated[int, Field(ge=0)] = 0  # optimizer steps in which no trial is stopped

    def build(self) -> Any:
        """Optuna's pruner."""
        from optuna.pruners import MedianPruner

        return MedianPruner(n_startup_trials=self.first_trials, n_warmup_steps=self.first_steps)


@component
class SuccessiveHalving(Pruner):
    """Lets the best 1 / reduction of the trials go on at each rung of steps (asynchronous; Li et al., 2020)."""

    first_steps: Steps | None = None  # optimizer steps before the first rung; null: as the first trial's length tells
    reduction: Annotated[int, Field(ge=2)] = 4  # of this many trials one goes on
    least_trials: Annotated[int, Field(ge=0)] = 0  # a rung is judged only once so many trials more have reached it

    def build(self) -> Any:
        """Optuna's pruner."""
        from optuna.pruners import SuccessiveHalvingPruner

        return SuccessiveHalvingPruner(
            min_resource=self.first_steps or "auto",
            reduction_factor=self.reduction,
            bootstrap_count=self.least_trials,
        )


@component
class Hyperband(Pruner):
    """Successive halving with several lengths of the first rung beside each other (Li et al., 2018)."""

    first_steps: Steps = 1  # optimizer steps before the first rung of the most eager bracket
    last_steps: Steps | None = None  # optimizer steps of a whole run; null: as the first trial's length tells
    reduction: Annotated[int, Field(ge=2)] = 3  # of this many trials one goes on

    def __post_init__(self) -> None:
        if self.last_steps is not None and self.last_steps <= self.first_steps:
            raise Refusal("last_steps", "a whole run is longer than first_steps")

    def build(self) -> Any:
        """Optuna's pruner."""
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(
            min_resource=self.first_steps, max_resource=self.last_steps or "auto", reduction_factor=self.reduction
        )
