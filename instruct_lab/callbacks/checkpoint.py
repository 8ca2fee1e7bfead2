"""The component that configures which checkpoints a run writes, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.callbacks.base import Callback, TrainingModule
from instruct_lab.config import component

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from instruct_lab.tracker.recorder import Recorder


@component
class Checkpoint(Callback):
    """Checkpoints: the state from which an interrupted run resumes, and the weights with the best monitored value.

    `checkpoints/last.ckpt` is the whole training state: trained weights, optimizer, schedule, data position and random
    states. `checkpoints/previous.ckpt` is the state before it, from which the run resumes if `last.ckpt` is damaged.
    `checkpoints/best-STEP/` holds only the trained weights (for adapter methods, the adapter). Each of them is written
    under a temporary name and then renamed, so that a crash leaves the previous one undamaged.
    """

    every_steps: Annotated[int, Field(ge=1)] = 50  # optimizer steps between two training states
    monitor: str | None = "val/loss"  # the logged value that decides which weights are best; null: keep no best weights
    mode: Literal["min", "max"] | None = None  # which value is best; null: as the metric or loss declares

    def build(self, module: TrainingModule, recorder: Recorder) -> pl.Callback:
        """Create the Lightning callback."""
        from instruct_lab.callbacks.checkpoint_writer import CheckpointWriter

        mode = self.mode or (module.direction(self.monitor) if self.monitor is not None else "min")
        return CheckpointWriter(module, recorder.record.checkpoints_path, self.every_steps, self.monitor, mode)
