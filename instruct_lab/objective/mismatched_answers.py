"""Combine prompts with answers to other prompts; KTO estimates the divergence from the base model on such texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from instruct_lab.batching import IGNORED, Batch
from instruct_lab.model.family import family_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def mismatch_answers(model: Any, batch: Batch) -> Batch:
    """Combine each row's prompt with the next row's answer, and the last row's prompt with the first row's answer.

    Args:
        model: a decoder, which reads prompt and answer as one text, or an encoder-decoder, which reads them separately.
        batch: a batch with tensors `[rows, seq]`; each row ends with its answer.
    """
    rows = len(batch.input_ids)
    if family_of(model) == "encoder-decoder":
        return Batch(batch.input_ids, batch.attention_mask, batch.labels.roll(-1, dims=0))
    texts: list[Tensor] = []
    labels: list[Tensor] = []
    starts = [int((batch.labels[row] != IGNORED).int().argmax()) for row in range(rows)]
    for row in range(rows):
        other = (row + 1) % rows
        end = int(batch.attention_mask[other].sum())
        answer = slice(starts[other], end)
        texts.append(torch.cat([batch.input_ids[row, : starts[row]], batch.input_ids[other, answer]]))
        ignored = torch.full_like(batch.labels[row, : starts[row]], IGNORED)
        labels.append(torch.cat([ignored, batch.labels[other, answer]]))
    mask = [torch.ones_like(text) for text in texts]
    return Batch(_pad(texts, 0), _pad(mask, 0), _pad(labels, IGNORED), packing=batch.packing)


def _pad(rows: Sequence[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)
