"""Compute losses and other functions of logits for a chunk of target tokens at a time, to save memory."""

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
"""A function of logits `[n, vocab]` and target tokens `[n]` that returns values `[n, ...]`.

The values at an index depend only on the logits and the target token at this index, so that the function can be
computed in chunks.
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
    """Return the number of target tokens in a chunk; the logits of a chunk are computed together.

    The result is `None` if the logits are computed without chunks, for one of two reasons. Either there are few target
    tokens, or only the model's own forward pass can compute the logits. The latter is the case for a model that changes
    the outputs of its output projection, for example scales them, or whose projection is sharded over devices.

    Args:
        model: a language model of transformers, with or without adapters.
        num_targets: the number of target tokens.
        is_cut: whether `cut_cross_entropy` can compute the loss. If so, the result is a number even if there are few
            target tokens.
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
    """Compute logits from hidden states, chunk by chunk, and return the values of a function of these logits.

    If the projection is trained, the backward pass computes the logits again. If it is frozen, the gradients of the
    hidden states are computed in the forward pass, and nothing is computed twice.

    Args:
        projection: the output projection, which maps hidden states to logits.
        hidden: the hidden states that predict the target tokens, `[targets, hidden]`.
        targets: the ids of the target tokens, `[targets]`.
        evaluate: the function of logits and target tokens; in training, it returns one value for each target token.
        size: the number of hidden states in a chunk.

    Returns:
        The values of `evaluate` for all target tokens, `[targets]` in training, `[targets, ...]` without gradients.
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
    """Compute each target token's cross-entropy, float32 `[targets]`, by kernels that never write logits to memory."""
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
    """Autograd function for a frozen projection: its forward pass computes values and their gradients by chunks."""

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
