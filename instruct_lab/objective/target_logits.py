"""Compute logits only at the positions that predict a target token.

A small model spends most of its computation on the output projection, so this saves much time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from instruct_lab.batching import IGNORED
from instruct_lab.model.family import family_of, without_adapters
from instruct_lab.model.generator_states import GeneratorStates
from instruct_lab.model.kernels import uses_cut_cross_entropy
from instruct_lab.model.packing import packed_inputs
from instruct_lab.objective.base import Loss
from instruct_lab.objective.chunks import PROCESSING_CLASSES, Evaluate, chunk_size, cut_cross_entropy, values_in_chunks
from instruct_lab.objective.projection import selected_logits
from instruct_lab.objective.shared_prefix import logits_by_level, usable_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from instruct_lab.batching import Batch


def target_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the model's logits at the positions that predict a target token.

    In a decoder, each position predicts the token at the next position. In an encoder, each position predicts the
    original token at the same position. In an encoder-decoder, each position predicts the label at the same position,
    because the decoder reads the labels shifted right. Virtual tokens, such as those of prompt tuning, are never
    targets. A prefix that several rows share is computed once if the model supports this.

    Args:
        model: a language model of transformers, with or without adapters.
        batch: the batch; its tensors are `[rows, seq]`.

    Returns:
        Three tensors in the order of the batch's rows: the logits, `[targets, vocab]`, the ids of the target tokens,
        `[targets]`, and the index of each target token's row, `[targets]`.
    """
    labels, is_target = _labels(model, batch)
    return _logits(model, batch, is_target), labels[is_target], is_target.nonzero()[:, 0]


def target_values(model: PreTrainedModel, batch: Batch, evaluate: Evaluate) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate a function of the logits at each position that predicts a target token.

    If there are many target tokens, their logits are computed in chunks, so that they are never all in memory at once.

    Args:
        model: a language model of transformers, with or without adapters.
        batch: the batch; its tensors are `[rows, seq]`.
        evaluate: function of logits `[n, vocab]` and target tokens `[n]` that returns values `[n, ...]`.

    Returns:
        Three tensors in the order of the batch's rows: the values, `[targets, ...]`, the ids of the target tokens,
        `[targets]`, and the index of each target token's row, `[targets]`.
    """
    labels, is_target = _labels(model, batch)
    targets, rows = labels[is_target], is_target.nonzero()[:, 0]
    projection = model.get_output_embeddings()
    is_cut = evaluate is token_losses and uses_cut_cross_entropy(projection)
    size = chunk_size(model, len(targets), is_cut)
    states = None if size is None else GeneratorStates(batch.input_ids.device)
    hidden = None if size is None else _last_states(model, batch, is_target)
    if states is not None and hidden is None:
        states.restore()  # the second forward pass draws what a single one would draw
    if size is None or hidden is None:
        values = evaluate(_logits(model, batch, is_target), targets)
    elif is_cut:
        values = cut_cross_entropy(projection, hidden, targets)
    else:
        values = values_in_chunks(projection, hidden, targets, evaluate, size)
    return values, targets, rows


def _labels(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the target token of each position (int64), and whether it has one (bool), both `[rows, seq]`."""
    labels = batch.labels
    if family_of(model) == "decoder":
        labels = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)  # position t predicts t + 1
    return labels, labels != IGNORED


def _last_states(model: Any, batch: Batch, is_target: Tensor) -> Tensor | None:
    """Compute the inputs `[targets, hidden]` of the output projection at the target positions.

    The result is `None` if the model changes the projection's outputs before it returns them as logits.
    """
    states, outputs = [], []

    def first(hidden: Tensor) -> Tensor:
        states.append(hidden)
        return hidden[:1]

    projection = model.get_output_embeddings()
    hook = projection.register_forward_hook(lambda module, given, output: outputs.append(output))
    try:
        logits = _logits(model, batch, is_target, first)
    finally:
        hook.remove()
    if logits is outputs[-1]:
        return states[-1]
    PROCESSING_CLASSES.add(type(without_adapters(model)))
    return None


def _logits(model: Any, batch: Batch, is_target: Tensor, reduce: Callable[[Tensor], Tensor] = lambda h: h) -> Tensor:
    """Compute the logits at the target positions, or at those of them that `reduce` selects.

    Args:
        model: a language model of transformers, with or without adapters.
        batch: the batch; its tensors are `[rows, seq]`.
        is_target: bool `[rows, seq]`, whether each position predicts a target token.
        reduce: function that selects, from the hidden states `[targets, hidden]`, those whose logits are computed; by
            default, it returns all of them.
    """
    tree = usable_tree(model, batch)
    if tree is not None:
        return logits_by_level(model, tree, is_target, reduce)
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
            return reduce(hidden.flatten(0, 1)[packed.positions[is_target]])  # [targets, hidden]
        virtual = hidden.shape[1] - is_target.shape[1]
        return reduce(hidden[functional.pad(is_target, (virtual, 0))])  # [targets, hidden]

    return selected_logits(model, inputs, select)


def label_weights(model: Any, batch: Batch) -> Tensor:
    """Return the weight of each target token in the loss, `[targets]`, in the order of the batch's rows."""
    labels, weights = batch.labels, batch.weights
    assert weights is not None
    if family_of(model) == "decoder":
        labels = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        weights = functional.pad(weights[:, 1:], (0, 1))
    return weights[labels != IGNORED]


def token_losses(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0, z_loss: float = 0.0) -> Tensor:
    """Compute each target token's cross-entropy, with label smoothing, plus its z-loss: in nats, float32 `[targets]`.

    The z-loss is the square of the logarithm of the softmax's denominator, multiplied by `z_loss`.
    """
    logits = logits.float()
    losses = functional.cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    if z_loss:
        losses = losses + z_loss * logits.logsumexp(dim=-1).square()
    return losses


def summed_cross_entropy(model: PreTrainedModel, batch: Batch) -> Loss:
    """Compute each row's cross-entropy, summed over its target tokens, and the number of these, both `[rows]`."""
    losses, _, rows = target_values(model, batch, token_losses)
    count = len(batch.labels)
    return Loss(sum_by_row(losses, rows, count), torch.bincount(rows, minlength=count))


def sum_by_row(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Sum values by row, and return the sum of each row, `[count]`.

    Args:
        values: the values, `[targets]`.
        rows: index of the row to which each value belongs, `[targets]`.
        count: number of rows.
    """
    return torch.zeros(count, device=values.device, dtype=values.dtype).index_add(0, rows, values)
