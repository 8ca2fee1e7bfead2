"""Build Lightning's trainer, set its callbacks, and start and stop its processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
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
from instruct_lab.experiment.rules.monitoring import mode_argument
from instruct_lab.experiment.rules.trainer import FLOAT16, fixed_arguments
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.training.ending import StopRequest
from instruct_lab.training.module import TuningModule
from instruct_lab.training.stopping import StopAtStep


def build_trainer(experiment: Experiment, run_path: Path) -> pl.Trainer:
    """Create the trainer that the config describes.

    Raises:
        InstructLabError: the trainer cannot run on this machine.
    """
    arguments: dict[str, Any] = dict(fixed_arguments(), default_root_dir=str(run_path), callbacks=[])
    refusals = (MisconfigurationException, ValueError, RuntimeError, ImportError, TypeError)
    with wrap_errors(
        *refusals, what="The trainer cannot run here", where="trainer", do="choose another trainer option"
    ):
        trainer: pl.Trainer = experiment.trainer.build(**arguments)
    if str(experiment.trainer.arguments.get("precision")) in FLOAT16 and trainer.precision not in FLOAT16:
        raise InstructLabError(
            f"The trainer would compute in {trainer.precision}, because Lightning supports float16 only on a GPU",
            where="trainer.precision",
            do="choose bf16-mixed or 32-true",
        )
    _check_processes(trainer)
    return trainer


def _check_processes(trainer: pl.Trainer) -> None:
    """Refuse a trainer whose processes cannot be started, or could not hand their results back.

    Each process of a run executes the program from its beginning, which a notebook or an interactive session is not.
    """
    launcher = trainer.strategy.launcher
    is_program = hasattr(sys.modules["__main__"], "__file__")
    if isinstance(launcher, _MultiProcessingLauncher):
        found = f"The strategy {type(trainer.strategy).__name__} trains in processes whose results would be lost"
    elif isinstance(launcher, _SubprocessScriptLauncher) and trainer.num_devices > 1 and not is_program:
        found = f"{trainer.num_devices} devices need as many processes, which an interactive session cannot start"
    else:
        return
    raise InstructLabError(
        found,
        where="trainer.strategy and trainer.devices",
        do="set trainer.devices=1, or train with strategy ddp from the command line or from a script",
    )


def start_other_ranks(trainer: pl.Trainer) -> None:
    """Start the other processes of a multi-device run, so that they share the evaluation before training.

    Lightning would start these processes later, in `trainer.fit`. Each process executes the same command from its
    beginning and joins the process group here.
    """
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.launch(trainer.strategy.setup_environment, trainer=trainer)


def stop_other_ranks(trainer: pl.Trainer) -> None:
    """Kill the other processes of a failed run, which may be waiting for this process."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        for process in launcher.procs:
            process.kill()


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
    """If both `max_steps` and `max_epochs` are set, replace them by the single limit `max_steps=num_steps`.

    With both limits, a run that resumes at the end of an epoch runs an empty epoch in Lightning and stops too early.
    """
    if trainer.max_steps >= 0 and trainer.max_epochs not in (None, -1):
        trainer.fit_loop.epoch_loop.max_steps = num_steps
        trainer.fit_loop.max_epochs = -1
