"""The Lightning callback that the component `WeightAverage` creates."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from instruct_lab.callbacks.evaluated_weights import EvaluatedWeights, trained_parameters
from instruct_lab.callbacks.optimizer_modes import has_modes
from instruct_lab.errors import InstructLabError


class AveragedWeights(EvaluatedWeights):
    """A callback that keeps a moving average of the weights, and uses it in validation and as the final weights.

    The average is updated right after an optimizer step, before a checkpoint can be written.

    Args:
        decay: factor by which each update multiplies the old average.
        every_steps: optimizer steps between two updates.
        start_step: number of the optimizer step after which averaging begins; the weights at that moment are the
            first average.
    """

    def __init__(self, decay: float, every_steps: int, start_step: int) -> None:
        super().__init__()
        self._decay, self._every_steps, self._start_step = decay, every_steps, start_step
        self._step = 0
        self._average: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of optimizer steps so far."""
        return {"step": self._step, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved average, which later steps update."""
        self._step, self._average = state_dict["step"], dict(state_dict["average"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Register a hook that updates the average after optimizer steps.

        Raises:
            InstructLabError: the optimizer itself averages the weights, as schedule-free optimizers do.
        """
        optimizer = trainer.optimizers[0]
        if has_modes(optimizer):
            raise InstructLabError(
                "The optimizer averages the weights itself, so a second average would replace its average",
                where="callbacks: WeightAverage",
                do="remove the callback, or choose another optimizer",
            )
        if self._step == 0:
            self._start_if_due(pl_module)
        optimizer.register_step_post_hook(lambda *_: self._after_step(pl_module))

    def _after_step(self, module: pl.LightningModule) -> None:
        self._step += 1
        if not self._average:
            self._start_if_due(module)
        elif (self._step - self._start_step) % self._every_steps == 0:
            self._update(module)

    def _start_if_due(self, module: pl.LightningModule) -> None:
        if self._step >= self._start_step:
            for name, parameter in trained_parameters(module).items():
                wide = torch.promote_types(parameter.dtype, torch.float32)
                self._average[name] = parameter.detach().to(wide, copy=True)

    @torch.no_grad()
    def _update(self, module: pl.LightningModule) -> None:
        for name, parameter in trained_parameters(module).items():
            average = self._average[name] = self._average[name].to(parameter.device)
            average.lerp_(parameter.to(average.dtype), 1 - self._decay)

    def has_weights(self, trainer: pl.Trainer) -> bool:
        """Whether an average exists; the first one exists after optimizer step `start_step`."""
        return bool(self._average)

    @torch.no_grad()
    def swap_in(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Load the average into the model, rounded to the precision of the model's parameters."""
        for name, parameter in trained_parameters(module).items():
            parameter.copy_(self._average[name])
