"""Other weights than those that train, put in for what is measured and kept, and taken out to the last bit."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytorch_lightning as pl
import torch
from torch import Tensor


def trained_parameters(module: pl.LightningModule) -> dict[str, torch.nn.Parameter]:
    """The parameters that require gradients, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class EvaluatedWeights(pl.Callback, ABC):
    """Puts the weights in before validation and takes them out after it; puts them in for good when training is over.

    Has to stand after the callbacks that keep weights at the end of a validation. States to continue from are written
    between two training steps, so they hold the weights that train. What trains is put back from a copy, not computed,
    so that how often a run is measured does not change what it trains.
    """

    def __init__(self) -> None:
        self._training: dict[str, Tensor] | None = None

    @abstractmethod
    def has_weights(self, trainer: pl.Trainer) -> bool:
        """Whether there are other weights, by now."""

    @abstractmethod
    def put_in(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put them in."""

    def take_out(self, trainer: pl.Trainer) -> None:
        """Told before what trains is copied back."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the other weights."""
        if self.has_weights(trainer):
            trained = trained_parameters(pl_module)
            self._training = {name: parameter.detach().clone() for name, parameter in trained.items()}
            self.put_in(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with what trains."""
        if self._training is None:
            return
        self.take_out(trainer)
        with torch.no_grad():
            for name, parameter in trained_parameters(pl_module).items():
                parameter.copy_(self._training[name])
        self._training = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the other weights: also where a continued run had no step left."""
        if self.has_weights(trainer):
            self.put_in(trainer, pl_module)
