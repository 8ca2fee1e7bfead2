"""Report a trial's validation values to the sweep's Optuna study, whose pruner may stop the run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.sweep.storage import STUDY_NAME, open_storage
from instruct_lab.sweep.task import Report


def pruning_check(report: Report) -> Callable[[int, dict[str, float]], str | None]:
    """Create a function that reports a trial's validation value to Optuna and asks whether to stop the trial.

    Args:
        report: where to report: the sweep's database, the trial in it, the metric, and the pruner that decides.

    Returns:
        A function that receives the optimizer step and the validation values, keyed by name. It returns a text with the
        reason to stop the run, or `None` if the run goes on. It raises `InstructLabError` if the metric is not among
        the values.
    """
    open_trial = functools.cache(lambda: _trial(report))

    def report_values(step: int, values: dict[str, float]) -> str | None:
        if report.metric not in values:
            raise InstructLabError(
                f"sweep.metric is {report.metric}, which is not logged during training",
                do=f"choose one of: {', '.join(sorted(values))}; or pruner=none",
            )
        trial, value = open_trial(), values[report.metric]
        trial.report(value, step)
        if not trial.should_prune():
            return None
        return f"{report.metric} {value:.6g} at step {step}: the sweep's pruner stopped the run"

    return report_values


def _trial(report: Report) -> Any:
    """Load the Optuna trial from the sweep's database, so that this process can report values to it."""
    import optuna
    from omegaconf import OmegaConf

    from instruct_lab.config.build import build

    study = optuna.load_study(
        study_name=STUDY_NAME,
        storage=open_storage(report.storage),
        pruner=build(OmegaConf.create(report.pruner)).root.build(),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    return optuna.trial.Trial(study, report.trial_id)
