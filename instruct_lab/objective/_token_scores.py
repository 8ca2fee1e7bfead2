"""What a model says of the labels of a batch when it is given all that stands before each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from instruct_lab.objective._target_logits import target_logits
from instruct_lab.objective.base import TokenScores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from instruct_lab.batching import Batch


def token_scores(model: PreTrainedModel, batch: Batch) -> list[TokenScores]:
    """Loss, confidence and correctness of every label of each example; of pairs, of the chosen answers.

    Args:
        model: in evaluation mode.
        batch: `[rows, seq]`.
    """
    chosen = batch.chosen
    logits, targets, rows = target_logits(model, chosen)  # [targets, vocab], [targets], [targets]
    log_probabilities = logits.float().log_softmax(dim=-1)
    losses = -log_probabilities.gather(1, targets[:, None])[:, 0]
    best, likeliest = log_probabilities.max(dim=-1)
    table = torch.stack([losses.double(), best.double().exp(), (likeliest == targets).double()], dim=1).cpu()
    scores = []
    for row in range(len(chosen.input_ids)):
        told = table[(rows == row).cpu()]
        scores.append(TokenScores(told[:, 0].tolist(), told[:, 1].tolist(), [bool(x) for x in told[:, 2].tolist()]))
    return scores
