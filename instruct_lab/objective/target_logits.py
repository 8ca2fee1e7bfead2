"""Computation of logits at target positions only, because the output projection dominates the cost of a small model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from instruct_lab.batching import IGNORED
from instruct_lab.model.family import family_of, without_adapters
from instruct_lab.model.packing import packed_inputs
from instruct_lab.objective.base import Loss
from instruct_lab.objective.projection import selected_logits
from instruct_lab.objective.shared_prefix import logits_by_level, usable_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from instruct_lab.batching import Batch


def target_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the model's logits at the positions that have a label.

    A decoder predicts the label of the next position. An encoder predicts the label of the same position, and so does
    an encoder-decoder, because its decoder reads the labels shifted right. The positions of virtual tokens (of prompt
    tuning, for example) are left out. Prefixes that rows share are computed once if the model and the batch allow it.

    Args:
        model: a language model of transformers, with or without adapters.
        batch: rows `[rows, seq]`.

    Returns:
        Logits `[targets, vocab]`, labels `[targets]` and row indices `[targets]`, in the order of the rows.
    """
    labels = batch.labels
    if family_of(model) == "decoder":
        labels = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)  # [rows, seq]: position t predicts t + 1
    is_target = labels != IGNORED
    logits = _logits(model, batch, is_target)
    return logits, labels[is_target], is_target.nonzero()[:, 0]


def _logits(model: Any, batch: Batch, is_target: Tensor) -> Tensor:
    tree = usable_tree(model, batch)
    if tree is not None:
        return logits_by_level(model, tree, is_target)
    packed = None if batch.packing is None else packed_inputs(model, batch)
    inputs: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if family_of(model) == "encoder-decoder":
        base = without_adapters(model)
        inputs["decoder_input_ids"] = base.prepare_decoder_input_ids_from_labels(labels=batch.labels)
    if family_of(model) != "encoder":
        inputs["use_cache"] = False
    if packed is not None:
        inputs |= packed.arguments

    def select(hidden: Tensor) -> Tensor:
        if packed is not None:
            return hidden.flatten(0, 1)[packed.positions[is_target]]  # [targets, hidden]
        virtual = hidden.shape[1] - is_target.shape[1]
        return hidden[functional.pad(is_target, (virtual, 0))]  # [targets, hidden]

    return selected_logits(model, inputs, select)


def label_weights(model: Any, batch: Batch) -> Tensor:
    """Return the weight of each label, `[targets]`, in the order of `target_logits`."""
    labels, weights = batch.labels, batch.weights
    assert weights is not None
    if family_of(model) == "decoder":
        labels = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        weights = functional.pad(weights[:, 1:], (0, 1))
    return weights[labels != IGNORED]


def token_losses(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, z_loss: float = 0.0) -> Tensor:
    """Compute the cross-entropy of each target in nats, float32 `[targets]`, with label smoothing and z-loss."""
    logits = logits.float()
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    if z_loss:
        losses = losses + z_loss * logits.logsumexp(dim=-1).square()
    return losses


def summed_cross_entropy(model: PreTrainedModel, batch: Batch) -> Loss:
    """Compute the summed cross-entropy and the number of labels of each row, each `[rows]`."""
    logits, targets, rows = target_logits(model, batch)
    count = len(batch.labels)
    return Loss(sum_by_row(token_losses(logits, targets), rows, count), torch.bincount(rows, minlength=count))


def sum_by_row(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum `values` `[targets]` by the rows to which they belong, `rows` `[targets]`; return `count` sums, `[count]`."""
    return torch.zeros(count, device=values.device, dtype=values.dtype).index_add(0, rows, values)
