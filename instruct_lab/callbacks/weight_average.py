"""A running average of the weights as a choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.callbacks.components import Callback
from instruct_lab.config import component

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from instruct_lab.training.module import TuningModule
    from instruct_lab.training.recording import Recorder


@component
class WeightAverage(Callback):
    """Exponential moving average of what trains: measured and kept in place of the last step's weights.

    average = decay·average + (1 - decay)·weights, from the weights after step `start_step`, in float32 or wider.
    Validation, the best and the last weights are those of the average; training and the state that a killed run
    continues from are not touched by it. Takes one copy of the trained parameters, and another during validation.
    Source: Polyak and Juditsky, 1992; Tarvainen and Valpola, 2017.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99  # share of the average that stays at an update
    every_steps: Annotated[int, Field(ge=1)] = 1  # optimizer steps between two updates
    start_step: Annotated[int, Field(ge=0)] = 0  # optimizer step whose weights the average starts from; 0: the untuned

    def build(self, module: TuningModule, recorder: Recorder) -> pl.Callback:
        """The Lightning callback."""
        from instruct_lab.callbacks._averaged_weights import AveragedWeights

        return AveragedWeights(self)
