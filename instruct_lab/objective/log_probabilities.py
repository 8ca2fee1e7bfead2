"""Log-probabilities that a model gives to target tokens: summed over each answer, and for each token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from instruct_lab.objective.base import TokenScores
from instruct_lab.objective.target_logits import sum_by_row, target_values

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from instruct_lab.batching import Batch


def sequence_log_probabilities(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Compute the summed log-probability of the target tokens of each row of a batch, in one forward pass.

    Args:
        model: a decoder or an encoder-decoder.
        batch: the batch; its tensors are `[rows, seq]`.

    Returns:
        Two tensors: the log-probability summed over each row's target tokens, in nats, float32 `[rows]`, and the number
        of these tokens, int64 `[rows]`.
    """
    chosen, _, rows = target_values(model, batch, _log_probabilities)  # each [targets]
    count = len(batch.input_ids)
    return sum_by_row(chosen, rows, count), torch.bincount(rows, minlength=count)


def token_scores(model: PreTrainedModel, batch: Batch) -> list[TokenScores]:
    """Compute how well a model predicts every target token of each example.

    The scores of a target token are its loss, the probability of the token that the model finds most likely in its
    place, and whether this most likely token is the target token. In preference pairs, only the chosen answers are
    scored.

    Args:
        model: a model in evaluation mode.
        batch: the batch; its tensors are `[rows, seq]`.
    """
    chosen = batch.chosen
    table, _, rows = target_values(model, chosen, _scores)  # [targets, 3], [targets], [targets]
    table = table.cpu()
    scores = []
    for row in range(len(chosen.input_ids)):
        of_row = table[(rows == row).cpu()]  # [targets of the row, 3]
        correct = [bool(value) for value in of_row[:, 2].tolist()]
        scores.append(TokenScores(of_row[:, 0].tolist(), of_row[:, 1].tolist(), correct))
    return scores


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target token, float32 `[targets]`."""
    return logits.float().log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]


def _scores(logits: Tensor, targets: Tensor) -> Tensor:
    """Return three scores of each target token, float64 `[targets, 3]`.

    They are its loss, the probability of the token that the model finds most likely, and whether this most likely token
    is the target token (1) or not (0).
    """
    log_probabilities = logits.float().log_softmax(dim=-1)
    losses = -log_probabilities.gather(1, targets[:, None])[:, 0]
    best, likeliest = log_probabilities.max(dim=-1)
    return torch.stack([losses.double(), best.double().exp(), (likeliest == targets).double()], dim=1)
