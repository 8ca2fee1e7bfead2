"""Run trials in the worker processes of a Ray or Slurm cluster."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

from instruct_lab.sweep.task import Outcome, Task
from instruct_lab.sweep.trial import run_task

if TYPE_CHECKING:
    from instruct_lab.training.shared import SharedModels


@functools.cache
def _shared_models() -> SharedModels:
    from instruct_lab.training.process import shared_models

    return shared_models()


def run_in_worker(entries: dict[str, Any]) -> dict[str, str]:
    """Run one trial in this worker process, which keeps loaded models for later trials.

    Args:
        entries: the description of the trial, as `Task.to_json` returns it.

    Returns:
        The fields of the trial's `Outcome`.
    """
    from instruct_lab.training.ending import Interrupted

    try:
        outcome = run_task(Task.from_json(entries), _shared_models())
    except Interrupted as interrupted:
        outcome = Outcome("interrupted", str(interrupted))
    return dataclasses.asdict(outcome)
