"""The base class of callbacks, and the part of the LightningModule that they may use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from instruct_lab.config import Component

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from instruct_lab.tracker.recorder import Recorder

OnValidation = Callable[[int, dict[str, float]], str | None]
"""A function that gets a validation's optimizer step and logged values, and returns a reason to stop, or `None`."""


class Pruned(Exception):
    """Raised when the sweep stops the run early; the message names the logged value that was too poor."""


class TrainingModule(Protocol):
    """The part of the LightningModule that callbacks may use."""

    num_steps: int  # optimizer steps of the whole run
    num_target_tokens: int  # target tokens trained on since the start of the run, on all devices
    tokens_per_second: float  # target tokens per second in the last optimizer step
    train_loss: float  # loss of the last optimizer step

    @property
    def step_ended(self) -> bool:
        """Whether the current batch completed an optimizer step."""

    def log_step(self) -> None:
        """Log the values of the last optimizer step, such as its loss, if the current batch completed this step."""

    def weights_writer(self, is_writer: bool) -> Callable[[Path], None]:
        """Return a function that writes the trained weights to a new folder.

        Every rank must call this method; `is_writer` says whether this rank will write the weights.
        """

    def direction(self, name: str) -> Literal["min", "max"]:
        """Return `min` if smaller values of the logged metric `name` are better, otherwise `max`."""


class Callback(Component, ABC):
    """Base class of the components that create a Lightning callback."""

    @abstractmethod
    def build(self, module: TrainingModule, recorder: Recorder) -> pl.Callback:
        """Create the Lightning callback.

        Args:
            module: the module that trains the model.
            recorder: the recorder that writes values to the run record and the trackers.
        """
