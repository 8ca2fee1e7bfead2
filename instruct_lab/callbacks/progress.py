"""The progress line."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from instruct_lab.callbacks import components
from instruct_lab.training.module import TuningModule


class ProgressLine(pl.Callback):
    """Step, loss, target tokens a second, time left; a plain line every so many steps where there is no terminal."""

    def __init__(self, settings: components.Progress, module: TuningModule) -> None:
        self._settings = settings
        self._module = module
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: Any = None
        self._started = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the line."""
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
        total, done = self._module._num_steps, trainer.global_step
        self._task = self._bar.add_task("training", total=total, completed=done, values="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the line."""
        if not self._module.step_ended or not trainer.is_global_zero:
            return
        step, total = trainer.global_step, self._module._num_steps
        values = f"loss {self._module.train_loss:.3f}  {self._module.tokens_per_second:,.0f} target tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, values=values)
        elif step % self._settings.every_steps == 0 or step == total:
            elapsed = time.perf_counter() - self._started
            left = elapsed / max(1, step - self._first_step) * max(0, total - step)
            self._console.print(f"step {step}/{total}  {values}  {left:,.0f} s left", highlight=False, soft_wrap=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print what validation gave."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        shown = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        line = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self._console.print(f"step {trainer.global_step}  {line}", highlight=False, soft_wrap=True)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close the line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
