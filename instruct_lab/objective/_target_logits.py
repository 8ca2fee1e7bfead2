"""Logits at chosen positions only: the vocabulary projection is most of a small model's cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from instruct_lab.batching import Batch


def target_logits(model: PreTrainedModel, batch: Batch, is_target: Tensor) -> Tensor:
    """The model's own logits at the positions of a mask.

    The hidden states are gathered as they enter the output projection, so that whatever the architecture does around it
    (scaling, soft-capping, adapters) still happens.

    Args:
        model: a causal language model of transformers, adapted or not.
        batch: the inputs, `[batch, seq]`.
        is_target: bool, `[batch, seq]`.

    Returns:
        Logits `[targets, vocab]`, in the order of `is_target.nonzero()`.
    """
    projection: nn.Module = model.get_output_embeddings()

    def gather(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = arguments[0]  # [batch, seq, hidden]
        return (hidden[is_target], *arguments[1:])  # [targets, hidden]

    hook = projection.register_forward_pre_hook(gather)
    try:
        outputs = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        hook.remove()
    logits: Tensor = outputs.logits
    assert logits.dim() == 2, "the output projection was not called on the gathered hidden states"
    assert isinstance(logits, torch.Tensor)
    return logits
