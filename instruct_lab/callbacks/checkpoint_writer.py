"""The callback that writes checkpoints during training: the state from which to resume, and the best weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl

from instruct_lab.callbacks.base import TrainingModule
from instruct_lab.callbacks.kept_weights import keep_weights, removed_on_error
from instruct_lab.callbacks.training_states import LAST_STATE, keep_state
from instruct_lab.errors import InstructLabError
from instruct_lab.progress import stage


class CheckpointWriter(pl.Callback):
    """A callback that writes `last.ckpt` every `every_steps` steps, and `best-STEP` when the monitored value improves.

    A training state is written between two batches, but never between a batch and its validation, so that a resumed run
    repeats neither the batch nor the validation. If a validation follows the step at which a state is due, the state is
    written after the next step or at the end of the epoch. When a new `last.ckpt` is written, the old one is kept as
    `previous.ckpt`.

    Args:
        module: the module that trains the model.
        folder: the run's `checkpoints/`.
        every_steps: optimizer steps between two training states.
        monitor: the logged value that decides which weights are best; `None`: keep no best weights.
        mode: `min` if the smallest value is best, `max` if the largest is best.
    """

    def __init__(
        self, module: TrainingModule, folder: Path, every_steps: int, monitor: str | None, mode: Literal["min", "max"]
    ) -> None:
        self._module = module
        self._folder = folder
        self._every_steps = every_steps
        self._monitor = monitor
        self._sign = 1 if mode == "min" else -1
        self._best: float | None = None
        self._saved_step = 0
        self._is_epoch_done = False

    def state_dict(self) -> dict[str, Any]:
        """Return the best monitored value so far, as an entry of the training state."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best monitored value from a training state."""
        self._best = state_dict["best"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the current step, from which the steps until the next training state are counted."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the training state if it is due, unless a validation or the end of the epoch follows this batch."""
        epoch_loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        is_boundary = epoch_loop._num_ready_batches_reached() or epoch_loop._should_check_val_fx(fetcher)
        if self._module.step_ended and self._is_due(trainer) and not is_boundary:
            self._save_state(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the training state at the end of an epoch if it is due.

        After an epoch's last batch, `on_train_batch_end` does not write it. Lightning also calls this method when
        `max_steps` ends the run within an epoch. No state is written then: it would count the rest of the epoch as
        done, and the run could not be extended.
        """
        if self._is_due(trainer) and trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            self._save_state(trainer, is_epoch_done=True)

    def save_to_stop(self, trainer: pl.Trainer, *, is_epoch_done: bool) -> None:
        """Write the training state before the run stops, unless it was already written after the current step.

        Args:
            trainer: Lightning's trainer.
            is_epoch_done: whether the run stops at the end of an epoch, so that the written state must count the epoch
                as done.
        """
        if self._saved_step != trainer.global_step:
            self._save_state(trainer, is_epoch_done=is_epoch_done)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Mark the epoch as done in a training state that is written at the end of the epoch.

        Lightning itself marks the epoch as done only after this callback. In a run with `max_steps` that resumes from a
        state without the mark, Lightning would count the first batch as a batch of the old epoch.
        """
        if not self._is_epoch_done:
            return
        loop = checkpoint["loops"]["fit_loop"]
        for counts in loop["epoch_progress"].values():
            counts["completed"] = counts["processed"]
        batches = loop["epoch_loop.batch_progress"]
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False

    def _is_due(self, trainer: pl.Trainer) -> bool:
        return trainer.global_step - self._saved_step >= self._every_steps

    def _save_state(self, trainer: pl.Trainer, *, is_epoch_done: bool = False) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{LAST_STATE}.partial"
        self._saved_step = trainer.global_step
        self._is_epoch_done = is_epoch_done
        with removed_on_error(partial), stage("writing the training state"):
            trainer.save_checkpoint(partial)
        if not trainer.is_global_zero:
            return
        if not partial.is_file() or not partial.stat().st_size:  # Lightning ignores a PermissionError
            raise InstructLabError(
                "The checkpoint was not written", where=str(partial), do="check permissions and disk space"
            )
        keep_state(partial, self._folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights if the monitored value is the best so far.

        Raises:
            InstructLabError: the monitored value is not logged.
        """
        monitor = self._monitor
        if monitor is None or trainer.sanity_checking:
            return
        logged = trainer.callback_metrics.get(monitor)
        if logged is None:
            raise InstructLabError(
                f"callbacks.checkpoint.monitor is {monitor}, which is not logged",
                do=f"choose one of: {', '.join(sorted(trainer.callback_metrics))}",
            )
        value = float(logged)
        if math.isfinite(value) and (self._best is None or self._sign * value < self._sign * self._best):
            self._best = value
            step, is_writer = trainer.global_step, trainer.is_global_zero
            with stage("writing the best weights"):
                save = self._module.weights_writer(is_writer)
                if is_writer:
                    keep_weights(save, self._folder, "best", step=step, monitor=monitor, value=value)
