"""Build the optimizer with which a run's memory and time are estimated; its parameters have shapes but no values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import torch

from instruct_lab.optimizer import Optimizer
from instruct_lab.optimizer.groups import Group
from instruct_lab.optimizer.quantized import QuantizedAdamW

BLOCK = 256
"""Number of 8-bit values in a block of a state; all values of a block have the same scaling factor."""


class _QuantizedStates(torch.optim.Optimizer):
    """An optimizer that updates nothing, but whose states take as much memory as those of `QuantizedAdamW`."""

    def __init__(self, groups: list[dict[str, Any]], settings: QuantizedAdamW) -> None:
        super().__init__(groups, {"lr": settings.peak_lr})
        self._settings = settings

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is called
        """Create the states at the first step, unless they are paged: paged states can leave the GPU."""
        settings = self._settings
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or self.state[parameter] or settings.paged:  # paged states can leave the GPU
                    continue
                is_small = settings.bits == 32 or parameter.numel() < settings.min_quantized
                dtype = torch.float32 if is_small else torch.uint8
                states = {name: torch.zeros_like(parameter, dtype=dtype) for name in ("first", "second")}
                if not is_small:
                    blocks = parameter.new_zeros(2 * -(-parameter.numel() // BLOCK), dtype=torch.float32)
                    states["scales"] = blocks
                self.state[parameter] = states


def build_optimizer(
    optimizer: Optimizer, parameters: Iterable[tuple[str, torch.nn.Parameter]], factor: Any
) -> torch.optim.Optimizer:
    """Build the optimizer of a run for parameters without values.

    In place of `QuantizedAdamW`, an optimizer with states of the same size is built, which does not need bitsandbytes.

    Args:
        optimizer: the run's optimizer.
        parameters: all named parameters of the model, including frozen ones.
        factor: function that returns, for a parameter's name, the factor by which its learning rate is multiplied.
    """
    if not isinstance(optimizer, QuantizedAdamW):
        return optimizer.build(parameters, factor)

    class Planned(QuantizedAdamW):
        """`QuantizedAdamW` that builds an optimizer without bitsandbytes, with states of the same size."""

        def make(self, groups: list[Group]) -> torch.optim.Optimizer:
            return _QuantizedStates([group.options(self.peak_lr, self.weight_decay) for group in groups], self)

    fields = {field.name: getattr(optimizer, field.name) for field in dataclasses.fields(optimizer)}
    return Planned(**fields).build(parameters, factor)
