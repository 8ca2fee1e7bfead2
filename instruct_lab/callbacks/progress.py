"""The component that shows a run's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.callbacks.base import Callback, TrainingModule
from instruct_lab.config import component

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from instruct_lab.tracker.recorder import Recorder


@component
class Progress(Callback):
    """Shows steps, loss, target tokens per second and time left, as a live line in a terminal, else as plain lines."""

    every_steps: Annotated[int, Field(ge=1)] = (
        10  # optimizer steps between two plain lines, which are two seconds apart or more
    )

    def build(self, module: TrainingModule, recorder: Recorder) -> pl.Callback:
        """Create the Lightning callback."""
        from instruct_lab.callbacks.progress_line import ProgressLine

        return ProgressLine(module, self.every_steps)
