"""The callback that, after a signal, writes the training state at the end of the step and stops the run."""

from __future__ import annotations

import signal
from typing import Any

import pytorch_lightning as pl

from instruct_lab.callbacks.base import TrainingModule
from instruct_lab.callbacks.checkpoint_writer import CheckpointWriter
from instruct_lab.training.ending import Interrupted, StopRequest


class StopAtStep(pl.Callback):
    """A callback that ends a run on all ranks if one rank receives a signal.

    It waits for the end of the optimizer step and writes the training state; then the run stops. The callback must be
    the last one, so that the state includes the changes that other callbacks make after a step. If a validation follows
    the step, the run stops after the validation, so that a resumed run repeats neither the step nor the validation.

    Args:
        request: the handler of the signals that ask the run to stop.
        module: the module that trains the model.
    """

    def __init__(self, request: StopRequest, module: TrainingModule) -> None:
        self._request = request
        self._module = module

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install this run's signal handler in place of Lightning's.

        From now on, the first signal does not stop the run at once, but after the current optimizer step.
        """
        self._request.waits_for_step = True
        self._request.install()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stop after the step if a signal has arrived.

        If a validation or the end of the epoch follows this batch, the run stops after that instead.
        """
        epoch_loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        is_boundary = epoch_loop._num_ready_batches_reached() or epoch_loop._should_check_val_fx(fetcher)
        if self._module.step_ended and not is_boundary and self._is_requested(trainer):
            self._stop(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop after a validation if a signal has arrived.

        If the validation follows the last batch of the epoch, the run stops at the end of the epoch instead.
        """
        if trainer.sanity_checking or trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            return
        if self._module.step_ended and self._is_requested(trainer):
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at the end of an epoch if a signal has arrived.

        If `max_steps` ends the training in the middle of the epoch, the run stops in `on_train_end` instead.
        """
        if trainer.fit_loop.epoch_loop._num_ready_batches_reached() and self._is_requested(trainer):
            self._stop(trainer, is_epoch_done=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the run if a signal has arrived during the last step; from now on, a signal stops the run at once."""
        self._request.waits_for_step = False
        self._request.raise_if_waiting()

    def _is_requested(self, trainer: pl.Trainer) -> bool:
        is_requested = self._request.number is not None
        if trainer.world_size > 1:
            is_requested = trainer.strategy.reduce_boolean_decision(is_requested, all=False)
        return is_requested

    def _stop(self, trainer: pl.Trainer, *, is_epoch_done: bool = False) -> None:
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connectors
        for callback in callbacks:
            if isinstance(callback, CheckpointWriter):
                callback.save_to_stop(trainer, is_epoch_done=is_epoch_done)
        raise Interrupted(self._request.number or signal.SIGTERM)
