"""What a user can choose about a run's course: checkpoints, progress."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.config import Component, component

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from instruct_lab.training.module import TuningModule
    from instruct_lab.training.recording import Recorder


class Callback(Component, ABC):
    """Something that happens at the trainer's hooks."""

    @abstractmethod
    def build(self, module: TuningModule, recorder: Recorder) -> pl.Callback:
        """The Lightning callback."""


@component
class Checkpoint(Callback):
    """Writes what a killed run continues from, and the best weights by a monitored value.

    `checkpoints/last.ckpt` is the whole state of the run (what trains, optimizer, schedule, data position, random
    states); `checkpoints/best-STEP/` holds what was trained alone. Both are written beside the old one, verified, then
    renamed. Adapter methods write their adapters only.
    """

    every_steps: Annotated[int, Field(ge=1)] = 50  # optimizer steps between two states to continue from
    monitor: str | None = "val/loss"  # the logged value that decides which weights are best; null: keep none
    mode: Literal["min", "max"] = "min"  # whether a small or a large value is best

    def build(self, module: TuningModule, recorder: Recorder) -> pl.Callback:
        """The Lightning callback."""
        from instruct_lab.callbacks.checkpoints import CheckpointWriter

        return CheckpointWriter(self, module, recorder)


@component
class Progress(Callback):
    """A live line in the terminal: step, loss, target tokens a second, time left; plain lines where there is none."""

    every_steps: Annotated[int, Field(ge=1)] = 10  # optimizer steps between two plain lines

    def build(self, module: TuningModule, recorder: Recorder) -> pl.Callback:
        """The Lightning callback."""
        from instruct_lab.callbacks.progress import ProgressLine

        return ProgressLine(self, module)
