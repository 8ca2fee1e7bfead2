"""Pruners stop a trial early if its validation values so far are worse than those of other trials."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Refusal

Steps = Annotated[int, Field(ge=1)]


class Pruner(Component, ABC):
    """Decides after each validation whether to stop a trial; the record of a stopped run has the status `pruned`."""

    prunes: ClassVar[bool] = True
    """Whether trials can be stopped."""

    @abstractmethod
    def build(self) -> Any:
        """Create the Optuna pruner that makes the decisions."""


@component
class NoPruner(Pruner):
    """Never stops a trial."""

    prunes: ClassVar = False

    def build(self) -> Any:
        """Create Optuna's `NopPruner`, which never stops a trial."""
        from optuna.pruners import NopPruner

        return NopPruner()


@component
class Median(Pruner):
    """Stops a trial whose best value so far is worse than the median of earlier trials' values at the same step.

    This is the median stopping rule (Golovin et al., 2017).
    """

    first_trials: Annotated[int, Field(ge=0)] = 4  # number of trials that are never stopped
    first_steps: Annotated[int, Field(ge=0)] = 0  # no trial is stopped before this optimizer step

    def build(self) -> Any:
        """Create Optuna's `MedianPruner`."""
        from optuna.pruners import MedianPruner

        return MedianPruner(n_startup_trials=self.first_trials, n_warmup_steps=self.first_steps)


@component
class SuccessiveHalving(Pruner):
    """Compares the trials at certain optimizer steps (rungs) and lets only the best of them continue.

    At each rung, one in `reduction` trials continues, and the others are stopped (ASHA; Li et al., 2020).
    """

    first_steps: Steps | None = None  # optimizer steps before the first rung; null: derived from the first trial
    reduction: Annotated[int, Field(ge=2)] = 4  # one in this many trials continues
    first_trials: Annotated[int, Field(ge=0)] = 0  # number of trials that are never stopped

    def build(self) -> Any:
        """Create Optuna's `SuccessiveHalvingPruner`, in a wrapper that never stops the first `first_trials` trials."""
        from optuna.pruners import SuccessiveHalvingPruner

        from instruct_lab.sweep.sparing_pruner import SparingPruner

        pruner = SuccessiveHalvingPruner(min_resource=self.first_steps or "auto", reduction_factor=self.reduction)
        return SparingPruner(pruner, self.first_trials)


@component
class Hyperband(Pruner):
    """Divides the trials into groups (brackets) and prunes each by successive halving (Li et al., 2018).

    Successive halving compares the trials of a bracket at certain optimizer steps (rungs): one in `reduction` trials
    continues, and the others are stopped. The brackets differ in the step of the first rung.
    """

    first_steps: Steps = 1  # optimizer steps before the first rung of the bracket that stops earliest
    last_steps: Steps | None = None  # optimizer steps of a whole run; null: derived from the first trial
    reduction: Annotated[int, Field(ge=2)] = 3  # one in this many trials continues

    def __post_init__(self) -> None:
        if self.last_steps is not None and self.last_steps <= self.first_steps:
            raise Refusal("last_steps", "it has to be greater than first_steps")

    def build(self) -> Any:
        """Create Optuna's `HyperbandPruner`."""
        from optuna.pruners import HyperbandPruner

        return HyperbandPruner(
            min_resource=self.first_steps, max_resource=self.last_steps or "auto", reduction_factor=self.reduction
        )
