"""The Lightning callback of `Progress`."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from instruct_lab.callbacks.base import TrainingModule
from instruct_lab.terminal import open_console


class ProgressLine(pl.Callback):
    """Shows step, loss, target tokens per second and time left.

    Args:
        module: the module that trains the model.
        every_steps: optimizer steps between two plain lines, if the output is not a terminal.
    """

    def __init__(self, module: TrainingModule, every_steps: int) -> None:
        self._module = module
        self._every_steps = every_steps
        self._console = open_console(stderr=True)
        self._bar: Progress | None = None
        self._task: Any = None
        self._started = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the progress line."""
        self._started, self._first_step = time.perf_counter(), trainer.global_step
        if not trainer.is_global_zero or not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[values]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        total, done = self._module.num_steps, trainer.global_step
        self._task = self._bar.add_task("training", total=total, completed=done, values="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the live line or, without a terminal, print a plain line."""
        if not self._module.step_ended or not trainer.is_global_zero:
            return
        step, total = trainer.global_step, self._module.num_steps
        values = f"loss {self._module.train_loss:.3f}  {self._module.tokens_per_second:,.0f} target tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, values=values)
        elif step % self._every_steps == 0 or step == total:
            elapsed = time.perf_counter() - self._started
            left = elapsed / max(1, step - self._first_step) * max(0, total - step)
            self._console.print(f"step {step}/{total}  {values}  {left:,.0f} s left", highlight=False, soft_wrap=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the values that the validation logged."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        line = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._console.print(f"step {trainer.global_step}  {line}", highlight=False, soft_wrap=True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop the progress line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
