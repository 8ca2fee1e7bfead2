"""The component that configures a moving average of the weights during training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.callbacks.base import Callback, TrainingModule
from instruct_lab.config import component

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from instruct_lab.tracker.recorder import Recorder


@component
class WeightAverage(Callback):
    """Exponential moving average of the trained weights, evaluated and saved instead of the last step's weights.

    average = decay·average + (1 - decay)·weights in float32 or wider, starting with the weights after `start_step`.
    Validation uses the average, and the best and last weights that a run saves are averages. Training continues with
    the weights themselves, not with the average, also in a run that resumes.
    Memory: one copy of the trained parameters, and a second one during validation.
    Source: Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99  # share of the average that is kept at an update
    every_steps: Annotated[int, Field(ge=1)] = 1  # optimizer steps between two updates
    start_step: Annotated[int, Field(ge=0)] = 0  # optimizer step whose weights start the average; 0: the base model's

    def build(self, module: TrainingModule, recorder: Recorder) -> pl.Callback:
        """Create the Lightning callback."""
        from instruct_lab.callbacks.averaged_weights import AveragedWeights

        return AveragedWeights(self.decay, self.every_steps, self.start_step)
