"""The Lightning callback that the component `Progress` creates."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytorch_lightning as pl
import torch

from instruct_lab.callbacks.base import TrainingModule
from instruct_lab.callbacks.peak_memory import peak_bytes
from instruct_lab.progress import Stage, format_seconds, stage
from instruct_lab.terminal import open_console

MEASURED_STEPS = 3
MEASURED_SECONDS = 5.0
"""Seconds of training (after at least `MEASURED_STEPS` steps) before an estimate of its time and memory is printed."""


class ProgressLine(pl.Callback):
    """A callback that reports the progress of training and validation in the output of the command.

    Args:
        module: the module that trains the model.
        every_steps: optimizer steps between two plain lines, if the output is not a terminal.
    """

    def __init__(self, module: TrainingModule, every_steps: int) -> None:
        self._module = module
        self._every_steps = every_steps
        self._console = open_console(stderr=True)
        self._open = contextlib.ExitStack()
        self._validating = contextlib.ExitStack()
        self._training: Stage | None = None
        self._validation: Stage | None = None
        self._started = 0.0
        self._num_measured = 0
        self._has_estimate = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the progress report of the training."""
        self._started = time.monotonic()
        self._training = self._open.enter_context(stage("training", self._module.num_steps, "step"))
        self._training.start_at(trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report that another batch is done; an optimizer step may consist of several batches."""
        assert self._training is not None
        step, size = trainer.global_step, trainer.accumulate_grad_batches
        if not self._module.step_ended:
            self._training.update(step, ahead=((batch_idx + 1) % size) / size)
            return
        self._training.update(step, note=self._values())
        self._print_estimate(trainer, self._training)
        self._training.wants_line = self._training.wants_line or step % self._every_steps == 0

    def _print_estimate(self, trainer: pl.Trainer, training: Stage) -> None:
        """Print once, after the first steps, how long the training will take and how much memory it has used."""
        each, left = training.seconds_each, training.seconds_left()
        if self._has_estimate or not trainer.is_global_zero or each is None or left is None:
            return
        self._num_measured += 1
        if self._num_measured >= MEASURED_STEPS and time.monotonic() - self._started >= MEASURED_SECONDS:
            self._has_estimate = True
            memory = f"{peak_bytes() / 1e9:.1f} GB of {'GPU memory' if torch.cuda.is_available() else 'memory'}"
            text = f"about {format_seconds(left)} of training left at {each:.1f} s a step; {memory} so far"
            self._console.print(text, soft_wrap=True)

    def _values(self) -> str:
        return f"loss {self._module.train_loss:.3f}, {self._module.tokens_per_second:,.0f} target tokens/s"

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the progress report of a validation."""
        num_batches = sum(int(count) for count in trainer.num_val_batches)
        self._validation = self._validating.enter_context(stage("validation", num_batches, "batch"))

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Report that another validation batch is done."""
        if self._validation is not None:
            self._validation.advance()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the values that the validation logged."""
        self._validating.close()
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        line = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._console.print(f"step {trainer.global_step}  {line}", soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the progress report of the training, and print the number of steps and the last loss."""
        self._open.close()
        if trainer.is_global_zero:
            seconds = format_seconds(time.monotonic() - self._started)
            steps = f"{trainer.global_step:,}/{self._module.num_steps:,} steps"
            self._console.print(f"training: {steps} in {seconds}, {self._values()}", soft_wrap=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End the open progress reports of a run that failed."""
        self._validating.close()
        self._open.close()
