"""Linear layers that take as much memory as quantised ones, so that estimates do not need bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from instruct_lab.model.quantization import Quantization

BLOCK = 64
"""Number of 4-bit weights in a block; all weights of a block have the same scaling factor."""


class _Dequantized(torch.autograd.Function):
    """Multiply hidden states by a quantised weight; the dequantised weight exists only during the product."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, packed: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.packed, ctx.shape = packed, shape
        return hidden @ hidden.new_empty(shape).T  # [..., inputs] @ [inputs, outputs]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient @ gradient.new_empty(ctx.shape), None, None


class QuantizedLinear(nn.Linear):
    """A frozen linear layer whose weight takes as many bytes as if bitsandbytes had quantised it."""

    def __init__(self, layer: nn.Linear, quantization: Quantization) -> None:
        super().__init__(1, 1, bias=False, device="meta")
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        count = layer.weight.numel()
        scales = 4 * layer.out_features  # float32, one a row
        if quantization.bits == 4:
            blocks = -(-count // BLOCK)
            scales = blocks + 4 * -(-blocks // 256) if quantization.double else 4 * blocks
        self.weight = nn.Parameter(
            torch.empty(count * quantization.bits // 8 + scales, dtype=torch.uint8, device="meta"), requires_grad=False
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Multiply by the weight, and add the bias."""
        if torch.is_autocast_enabled("cpu"):
            hidden = hidden.to(torch.get_autocast_dtype("cpu"))
        result: Tensor = _Dequantized.apply(hidden, self.weight, (self.out_features, self.in_features))
        return result if self.bias is None else result + self.bias


def quantize(model: Any, quantization: Quantization, kept: tuple[str, ...]) -> None:
    """Replace the linear layers of a model by layers that take as much memory as quantised ones.

    Args:
        model: the model, which is on the device `meta` and is changed in place.
        quantization: the run's settings of quantisation.
        kept: names of modules, such as `score`, that are not quantised. The output layer is never quantised, even if
            it is not listed.
    """
    model.requires_grad_(False)
    output = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if type(module) is not nn.Linear or module is output or last in kept:
            continue
        setattr(model.get_submodule(parent), last, QuantizedLinear(module, quantization))
