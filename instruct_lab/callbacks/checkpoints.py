"""Checkpoints: what a killed run continues from, and the best weights."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from instruct_lab.callbacks.components import Checkpoint
from instruct_lab.errors import InstructLabError
from instruct_lab.training.module import TuningModule
from instruct_lab.training.recording import Recorder
from instruct_lab.tuning import Tuning

LAST = "last.ckpt"


class RandomStates(pl.Callback):
    """Saves the states of all random generators and puts them back right before the next batch."""

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """States in types that `weights_only` loading accepts."""
        import numpy

        name, keys, position, has_gauss, cached = numpy.random.get_state()
        version, internal, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else [],
            "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
            "python": [version, list(internal), gauss],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the loop has been set up."""
        self._restored = state_dict

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Put the states back."""
        if self._restored is None:
            return
        import numpy

        states, self._restored = self._restored, None
        torch.set_rng_state(states["torch"].cpu())
        if states["cuda"]:
            torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
        name, keys, position, has_gauss, cached = states["numpy"]
        numpy.random.set_state((name, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, cached))
        version, internal, gauss = states["python"]
        random.setstate((version, tuple(internal), gauss))


class CheckpointWriter(pl.Callback):
    """Writes `last.ckpt` every so many optimizer steps, and a `best-STEP` folder when the monitored value improves.

    A state is written between two training batches, never between a batch and its validation, so a continued run does
    neither twice: one that falls due there is written at the next step, or at the end of the epoch.
    """

    def __init__(self, settings: Checkpoint, module: TuningModule, recorder: Recorder) -> None:
        self._settings = settings
        self._module = module
        self._recorder = recorder
        self._folder = Path(recorder.record.path) / "checkpoints"
        self._best: float | None = None
        self._saved_step = 0

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing against it."""
        self._best = state_dict["best"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where the run stands."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write the state, unless a validation or the end of the epoch follows this batch."""
        epoch_loop = trainer.fit_loop.epoch_loop
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None
        is_boundary = epoch_loop._num_ready_batches_reached() or epoch_loop._should_check_val_fx(fetcher)
        if self._module.step_ended and self._is_due(trainer) and not is_boundary:
            self._save_state(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the state if one fell due at the epoch's last batches."""
        if self._is_due(trainer):
            self._save_state(trainer)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        return trainer.global_step - self._saved_step >= self._settings.every_steps

    def _save_state(self, trainer: pl.Trainer) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{LAST}.partial"
        self._saved_step = trainer.global_step
        with written(partial):
            trainer.save_checkpoint(partial)
        if not trainer.is_global_zero:
            return
        if not partial.is_file() or not partial.stat().st_size:  # Lightning swallows a PermissionError
            raise InstructLabError(
                "The checkpoint was not written", where=str(partial), do="check permissions and space"
            )
        os.replace(partial, self._folder / LAST)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if the monitored value is the best so far."""
        monitor = self._settings.monitor
        if monitor is None or trainer.sanity_checking or not trainer.is_global_zero:
            return
        logged = trainer.callback_metrics.get(monitor)
        if logged is None:
            raise InstructLabError(
                f"callbacks.checkpoint.monitor is {monitor}, which is not logged",
                do=f"choose one of: {', '.join(sorted(trainer.callback_metrics))}",
            )
        value = float(logged)
        if not math.isfinite(value):
            return
        sign = 1 if self._settings.mode == "min" else -1
        if self._best is None or sign * value < sign * self._best:
            self._best = value
            write_weights(self._module, self._folder, "best", step=trainer.global_step, monitor=monitor, value=value)


@contextlib.contextmanager
def written(partial: Path) -> Iterator[None]:
    """Tell a disk that refuses as one paragraph, and leave nothing half-written."""
    try:
        yield
    except Exception as error:  # torch and safetensors tell a full disk each in their own way
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            partial.unlink()
        raise InstructLabError(
            f"The checkpoint cannot be written: {error}",
            where=str(partial.parent),
            do="free disk space or mend the folder's permissions, then go on with `instruct-lab resume`",
        ) from error


def write_weights(module: TuningModule, folder: Path, name: str, *, step: int, **facts: Any) -> None:
    """Write what was trained to `name-STEP/` and point `name.json` at it."""
    keep_weights(module._experiment.tuning, module.model, folder, name, step=step, **facts)


def keep_weights(tuning: Tuning, model: Any, folder: Path, name: str, *, step: int, **facts: Any) -> None:
    """Write what a tuning method keeps of a model to `name-STEP/` and point `name.json` at it; the old folder goes
    last."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{step:06d}"
    partial = folder / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    with written(partial):
        tuning.save(model, partial)
    if target.exists():
        shutil.rmtree(target)
    os.replace(partial, target)
    pointer = folder / f"{name}.json.partial"
    pointer.write_text(json.dumps({"path": target.name, "step": step, **facts}), encoding="utf-8")
    os.replace(pointer, folder / f"{name}.json")
    for old in folder.glob(f"{name}-*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def read_weights(folder: Path, name: str) -> tuple[Path, dict[str, Any]] | None:
    """The folder that `name.json` points at, and its facts; none if there is none."""
    pointer = folder / f"{name}.json"
    if not pointer.is_file():
        return None
    facts = json.loads(pointer.read_text(encoding="utf-8"))
    return folder / facts["path"], facts
