"""A loss of zero, whose backward pass lets DDP average the gradients that were summed up during an optimizer step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


class ZeroGradients:
    """Creates a loss of zero, whose backward pass lets DDP average the gradients of a step over the ranks.

    DDP gives a gradient of zeros to a parameter that no rank has used in the step. With such a gradient, an optimizer
    would apply weight decay to the parameter. On one device, the parameter would have no gradient, and the optimizer
    would leave it unchanged. So this class also removes these gradients.
    """

    def __init__(self) -> None:
        self._parameters: list[torch.nn.Parameter] = []
        self.has_gradient: list[float] = []
        """For each trained parameter, 1 if this rank has used it in the step, otherwise 0; empty on a single device."""

    def zero(self, parameters: Iterable[torch.nn.Parameter]) -> Tensor:
        """Return a scalar zero, whose backward pass reaches every trained parameter."""
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.has_gradient = [float(parameter.grad is not None) for parameter in self._parameters]
        zero: Tensor = ZeroOfParameters.apply(*self._parameters)
        return zero

    def remove_unused(self, num_ranks: Sequence[float]) -> None:
        """Remove the gradients of parameters that no rank has used in the step.

        Args:
            num_ranks: for each parameter, the number of ranks that used it: the sum of `has_gradient` over all ranks.
        """
        for parameter, count in zip(self._parameters, num_ranks, strict=True):
            if not count:
                parameter.grad = None
        self._parameters, self.has_gradient = [], []


class ZeroOfParameters(torch.autograd.Function):
    """A zero that depends on parameters and adds nothing to their gradients.

    In a multi-device run, the training module computes and adds up the gradients of a step during DDP's forward pass.
    DDP does not average gradients then. Afterwards, the backward pass of this zero reaches every trained parameter, so
    DDP averages the sums over the ranks, once in each step.
    """

    @staticmethod
    def forward(context: Any, *parameters: Tensor) -> Tensor:
        """Return a scalar zero."""
        context.save_for_backward(*parameters)
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        """Return a zero gradient for each parameter; the zeros of a gradient share the memory of a single number."""
        return tuple(one.new_zeros(()).expand_as(one) for one in context.saved_tensors)
