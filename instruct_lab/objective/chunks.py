"""Compute functions of logits, such as losses, in chunks, so that the logits of all targets are not held in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from instruct_lab.model.family import without_adapters
from instruct_lab.model.shares import is_sharded

Evaluate = Callable[[Tensor, Tensor], Tensor]
"""A function of logits `[n, vocab]` and labels `[n]` whose result `[n, ...]` has one row for each label.

Each row depends only on the logits and the label of the same index, so that the function can be computed in chunks.
"""

MOST_LOGITS = 2**26
"""Maximum number of logits in a chunk. They take 256 MiB in float32, and computing a loss about three times as much."""
MOST_LOGITS_OF_TRAINED = 2**28
"""Maximum number of logits that are computed without chunks if the output projection is trained.

This limit is higher than `MOST_LOGITS`, because with a trained projection the logits of each chunk are computed twice,
which makes loss and projection 1.4 times slower on a CPU. With a frozen projection, chunks take no additional time
(`tests/benchmarks/chunked_logits.py`). The limits are constants, not shares of the free memory, so that a repeated run
gives exactly the same results.
"""
SETTINGS_OF_PROCESSING = (
    "final_logit_softcapping",
    "logits_scaling",
    "logit_scale",
    "lm_head_multiplier",
    "output_multiplier",
    "output_logit_soft_cap",
)
"""Settings in a model's config that make the model change the outputs of its projection before it returns logits."""
PROCESSING_CLASSES: set[type] = set()
"""Model classes whose logits were found, in this process, to differ from the outputs of their projection."""


def chunk_size(model: Any, num_targets: int, is_cut: bool = False) -> int | None:
    """Return the number of targets in a chunk, whose logits are computed together.

    The result is `None` if no chunks are used: because there are few targets, or because the model's logits are not
    simply the outputs of its projection.

    Args:
        model: a language model of transformers, with or without adapters.
        num_targets: the number of targets.
        is_cut: whether `cut_cross_entropy` may be used; the result is then a number even if there are few targets.
    """
    base = without_adapters(model)
    projection = base.get_output_embeddings()
    if projection is None or is_sharded(projection):  # the weights are gathered only during the model's forward pass
        return None
    if type(base) in PROCESSING_CLASSES or getattr(base, "final_logits_bias", None) is not None:
        return None
    settings = base.config.get_text_config(decoder=True)
    if any(getattr(settings, name, None) not in (None, 1) for name in SETTINGS_OF_PROCESSING):
        return None
    is_recomputed = torch.is_grad_enabled() and _is_trained(projection)
    most = MOST_LOGITS_OF_TRAINED if is_recomputed else MOST_LOGITS
    num_logits = num_targets * int(settings.vocab_size)
    return None if num_logits <= most and not is_cut else max(1, MOST_LOGITS // int(settings.vocab_size))


def _is_trained(projection: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in projection.parameters())


def values_in_chunks(projection: nn.Module, hidden: Tensor, targets: Tensor, evaluate: Evaluate, size: int) -> Tensor:
    """Apply a function to the logits of hidden states, which are computed chunk by chunk, and return its values.

    If the projection is trained, the backward pass computes the logits again. If it is frozen, the gradients of the
    hidden states are computed in the forward pass, and nothing is computed twice.

    Args:
        projection: the output projection.
        hidden: the hidden states, `[targets, hidden]`.
        targets: the labels, `[targets]`.
        evaluate: the function of logits and labels; in training, it returns one value for each target.
        size: the number of hidden states in a chunk.
    """

    def compute(states: Tensor, labels: Tensor) -> Tensor:
        return evaluate(projection(states), labels)

    has_gradient = torch.is_grad_enabled()
    if has_gradient and hidden.requires_grad and not _is_trained(projection) and not _computes_float16(hidden):
        losses: Tensor = _ValuesOfFrozen.apply(hidden, targets, compute, size)
        return losses
    parts = zip(hidden.split(size), targets.split(size), strict=True)
    if not has_gradient:
        return torch.cat([compute(*part) for part in parts])
    return torch.cat([checkpoint(compute, *part, use_reentrant=False) for part in parts])


def cut_cross_entropy(projection: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropy of each target, float32 `[targets]`, by kernels that never write logits to memory."""
    from cut_cross_entropy import linear_cross_entropy

    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    losses: Tensor = linear_cross_entropy(
        hidden.to(dtype),
        projection.weight.to(dtype),
        targets,
        reduction="none",
        filter_eps=None,  # small gradients count
    )
    return losses.float()


def _computes_float16(hidden: Tensor) -> bool:
    """Whether the logits are computed in float16, so that `_ValuesOfFrozen` cannot be used.

    In float16, small gradients become zero unless a gradient scaler multiplies the loss by a factor. This factor is not
    known in the forward pass, in which `_ValuesOfFrozen` computes gradients.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    return dtype == torch.float16


class _ValuesOfFrozen(torch.autograd.Function):
    """A function of the logits of a frozen projection; its forward pass also computes and keeps the gradients."""

    @staticmethod
    def forward(
        context: Any, hidden: Tensor, targets: Tensor, compute: Callable[[Tensor, Tensor], Tensor], size: int
    ) -> Tensor:
        """Compute the values `[targets]` and their gradients with respect to the hidden states, `[targets, hidden]`."""
        values, gradients = [], []
        for states, labels in zip(hidden.split(size), targets.split(size), strict=True):
            with torch.enable_grad():
                states = states.detach().requires_grad_()
                of_part = compute(states, labels)
                of_part.sum().backward()  # torch's FLOP counter does not allow `torch.autograd.grad` here
            assert states.grad is not None
            gradients.append(states.grad)
            values.append(of_part.detach())
        context.save_for_backward(torch.cat(gradients))
        return torch.cat(values)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Any:
        """Multiply each value's stored gradient by the gradient of the loss with respect to the value, `[targets]`."""
        (of_values,) = context.saved_tensors
        return of_values * gradient[:, None].to(of_values.dtype), None, None, None
