"""Creation of Lightning's trainer and its callbacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from instruct_lab.callbacks import Callback
from instruct_lab.callbacks.base import OnValidation
from instruct_lab.callbacks.evaluated_weights import EvaluatedWeights
from instruct_lab.callbacks.optimizer_modes import OptimizerModes
from instruct_lab.callbacks.pruning import StopWhenPruned
from instruct_lab.callbacks.random_states import RandomStates
from instruct_lab.callbacks.step_log import StepLog
from instruct_lab.callbacks.training_check import TrainingCheck
from instruct_lab.config import ExternalClass
from instruct_lab.errors import InstructLabError, wrap_errors
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.rules.devices import FLOAT16
from instruct_lab.experiment.rules.monitoring import mode_argument
from instruct_lab.experiment.rules.sharding import FSDP
from instruct_lab.experiment.rules.trainer import fixed_arguments
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.training.ending import StopRequest
from instruct_lab.training.module import TuningModule
from instruct_lab.training.processes import check_processes, sizes_of_launch
from instruct_lab.training.sharding import ShardedStrategy
from instruct_lab.training.stopping import StopAtStep


def build_trainer(experiment: Experiment, run_path: Path) -> pl.Trainer:
    """Create the trainer that the config describes.

    Raises:
        InstructLabError: the trainer cannot run on this machine.
    """
    arguments: dict[str, Any] = dict(fixed_arguments(), default_root_dir=str(run_path), callbacks=[])
    if experiment.trainer.arguments.get("strategy") == FSDP:
        arguments["strategy"] = ShardedStrategy()  # Lightning's own strategy of this name is the earlier FSDP
    refusals = (MisconfigurationException, ValueError, RuntimeError, ImportError, TypeError)
    with wrap_errors(
        *refusals, what="The trainer cannot run here", where="trainer", do="choose another trainer option"
    ):
        arguments |= sizes_of_launch(experiment.trainer.arguments)
        trainer: pl.Trainer = experiment.trainer.build(**arguments)
    if str(experiment.trainer.arguments.get("precision")) in FLOAT16 and trainer.precision not in FLOAT16:
        raise InstructLabError(
            f"The trainer would compute in {trainer.precision}, because Lightning supports float16 only on a GPU",
            where="trainer.precision",
            do="choose bf16-mixed or 32-true",
        )
    check_processes(trainer)
    return trainer


def set_callbacks(
    trainer: pl.Trainer,
    experiment: Experiment,
    module: TuningModule,
    recorder: Recorder,
    on_validation: OnValidation | None,
    stop_request: StopRequest,
) -> None:
    """Give the trainer the config's callbacks and those that every run has, in the required order."""
    chosen: list[pl.Callback] = []
    for callback in experiment.callbacks.values():
        if isinstance(callback, Callback):
            chosen.append(callback.build(module, recorder))
        elif isinstance(callback, ExternalClass):
            chosen.append(callback.build(**mode_argument(callback, experiment)))
    chosen.sort(key=lambda callback: isinstance(callback, EvaluatedWeights))  # after those that write weights
    if on_validation is not None:
        chosen.append(StopWhenPruned(on_validation))
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connectors
    check, stop = TrainingCheck(recorder.record.add_warning), StopAtStep(stop_request, module)
    callbacks[:] = [StepLog(module), RandomStates(), check, *callbacks, *chosen, OptimizerModes(), stop]


def bound_by_steps(trainer: pl.Trainer, num_steps: int) -> None:
    """Replace `max_steps` and `max_epochs`, if both are set, by the single limit `max_steps=num_steps`.

    With both limits, a run that resumes at the end of an epoch runs an empty epoch in Lightning and stops too early.
    """
    if trainer.max_steps >= 0 and trainer.max_epochs not in (None, -1):
        trainer.fit_loop.epoch_loop.max_steps = num_steps
        trainer.fit_loop.max_epochs = -1
