"""Evaluation weights, which replace the training weights during validation and in the best and last weights.

They are either a moving average of the training weights, or the weights that a schedule-free optimizer provides for
evaluation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import pytorch_lightning as pl
import torch
from torch import Tensor


def trained_parameters(module: pl.LightningModule) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that require gradients, keyed by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class EvaluatedWeights(pl.Callback, ABC):
    """Base class of callbacks that load evaluation weights into the model for validation and at the end of training.

    Such a callback must come after the callbacks that write weights at the end of a validation, since it restores the
    training weights at that time. It restores them from a copy and does not recompute them, so that the number of
    validations does not change the training. Training states are written between two training steps, so they hold the
    training weights.
    """

    def __init__(self) -> None:
        self._training_weights: dict[str, Tensor] | None = None

    @abstractmethod
    def has_weights(self, trainer: pl.Trainer) -> bool:
        """Whether evaluation weights exist already."""

    @abstractmethod
    def swap_in(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Load the evaluation weights into the model."""

    def before_restore(self, trainer: pl.Trainer) -> None:
        """Do what is necessary before the training weights are copied back into the model; by default, nothing."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep a copy of the training weights and swap in the evaluation weights."""
        if self.has_weights(trainer):
            trained = trained_parameters(pl_module)
            self._training_weights = {name: parameter.detach().clone() for name, parameter in trained.items()}
            self.swap_in(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the training weights."""
        if self._training_weights is None:
            return
        self.before_restore(trainer)
        with torch.no_grad():
            for name, parameter in trained_parameters(pl_module).items():
                parameter.copy_(self._training_weights[name])
        self._training_weights = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the evaluation weights at the end of training, even if a resumed run had no step left to train."""
        if self.has_weights(trainer):
            self.swap_in(trainer, pl_module)
