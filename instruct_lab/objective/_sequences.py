"""Log-probabilities of whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from instruct_lab.objective._target_logits import target_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from instruct_lab.batching import Batch


def sequence_log_probabilities(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The log-probability of each row's labels under the model, all rows in one forward pass.

    Args:
        model: of a family that predicts a text from left to right.
        batch: `[rows, seq]`.

    Returns:
        Sums in nats, float32 `[rows]`, and numbers of labels, int64 `[rows]`.
    """
    logits, targets, rows = target_logits(model, batch)
    chosen = logits.float().log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]  # [targets]
    count = len(batch.input_ids)
    sums = torch.zeros(count, device=chosen.device, dtype=chosen.dtype).index_add(0, rows, chosen)
    return sums, torch.bincount(rows, minlength=count)
