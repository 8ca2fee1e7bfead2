"""Linear layers that compute with oneDNN on AMD processors with AVX-512.

Torch has two libraries for float32 matrix products on a CPU. By default, it uses MKL, whose AVX-512 code runs on Intel
processors only. On AMD processors, oneDNN is about twice as fast with the same precision (`docs/speed.md`).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from instruct_lab.cores import processor_fact
from instruct_lab.model.hardware import cpu_instructions

MIN_SIZE = 128
"""Minimum number of inputs, and of outputs, of a layer that uses oneDNN; for smaller layers, oneDNN is not faster."""
MIN_ROWS = 8
"""Minimum number of rows (tokens) of an input for which a layer uses oneDNN."""


@functools.cache
def has_faster_products() -> bool:
    """Whether oneDNN is faster than MKL on this machine: on AMD processors with AVX-512, under Linux."""
    is_amd_with_avx512 = processor_fact("vendor_id") == "AuthenticAMD" and "avx512" in cpu_instructions()
    has_libraries = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()
    return is_amd_with_avx512 and has_libraries and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def multiply(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `left @ right.T + bias` with oneDNN; `left` is `[rows, inner]`, and `right` is `[columns, inner]`."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product


def use_faster_products(model: nn.Module) -> None:
    """Let the large linear layers of a model compute with oneDNN if it is faster on this machine.

    The layers keep their names and weights, remain instances of `torch.nn.Linear`, and give the same results up to
    rounding.
    """
    if not has_faster_products():
        return
    for module in model.modules():
        if type(module) is nn.Linear and min(module.weight.shape) >= MIN_SIZE and module.weight.device.type == "cpu":
            module.__class__ = _Linear


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        """Return the outputs `[..., outputs]` of inputs `[..., inputs]`."""
        if not _is_suitable(input, self.weight):
            return super().forward(input)
        rows: Tensor = _Products.apply(input.reshape(-1, input.shape[-1]), self.weight, self.bias)
        return rows.view(*input.shape[:-1], rows.shape[-1])


def _is_suitable(input: Tensor, weight: Tensor) -> bool:
    """Whether to use oneDNN: for plain float32 CPU tensors with 8 rows or more, outside autocast and compilation."""
    return (
        type(input) is Tensor  # not a symbolic, distributed or quantised one
        and type(weight) in (Tensor, nn.Parameter)
        and input.dtype == weight.dtype == torch.float32
        and input.device.type == weight.device.type == "cpu"
        and input.numel() >= MIN_ROWS * input.shape[-1]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _Products(torch.autograd.Function):
    """The output of a linear layer, and its gradients, all computed by oneDNN."""

    @staticmethod
    def forward(context: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's outputs, `[rows, outputs]`."""
        needs_rows_gradient, needs_weight_gradient, _ = context.needs_input_grad
        context.save_for_backward(rows if needs_weight_gradient else None, weight if needs_rows_gradient else None)
        return multiply(rows, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of inputs, weight and bias; `None` for each that is not needed.

        Their shapes are `[rows, inputs]`, `[outputs, inputs]` and `[outputs]`.
        """
        rows, weight = context.saved_tensors
        of_rows = None if weight is None else multiply(gradient, weight.t())
        of_weight = None if rows is None else multiply(gradient.t(), rows.t())
        of_bias = gradient.sum(0) if context.needs_input_grad[2] else None
        return of_rows, of_weight, of_bias
