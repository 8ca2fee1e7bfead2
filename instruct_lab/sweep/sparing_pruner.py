"""An Optuna pruner that never stops the first trials of a sweep."""

from __future__ import annotations

from optuna import Study
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial


class SparingPruner(BasePruner):
    """A pruner that decides as another pruner does, except that it never stops the first trials of a sweep.

    Optuna's `SuccessiveHalvingPruner(bootstrap_count=n)` does the opposite: it stops the first n trials at each rung
    (step at which trials are compared).

    Args:
        pruner: the pruner that decides about later trials. It is also called for the first trials, because it may store
            their progress.
        first_trials: number of trials that are never stopped.
    """

    def __init__(self, pruner: BasePruner, first_trials: int) -> None:
        self._pruner = pruner
        self._first_trials = first_trials

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Return whether to stop the trial at the last step for which it has reported a value."""
        stops = self._pruner.prune(study, trial)
        return stops and trial.number >= self._first_trials
