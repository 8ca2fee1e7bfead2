"""Estimate of how many examples of a training batch fit into the free memory, measured on one example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from instruct_lab.batching import Batch
from instruct_lab.memory import free_memory
from instruct_lab.model.facts import LAYERS, WIDTHS, first_count
from instruct_lab.model.generator_states import GeneratorStates
from instruct_lab.training.costs import num_positions

SHARE = 0.8
"""Fraction of the free memory that an estimate may fill; the rest is left for the backward pass."""
KEPT_WIDTHS = 60
"""Upper bound, for common models, of the numbers that a layer keeps per position, divided by the layer's width."""
KEPT_LOGITS = 4
"""Upper bound of the numbers kept per position for logits and loss, divided by the vocabulary size."""


class FittingSize:
    """Estimator of the number of examples of a batch that fit into memory at once.

    It is needed on a CPU, where the system may promise more memory than it has and later kill the process without an
    error. On a GPU, it avoids a failed attempt. Only the memory of activations is estimated: weights are in memory
    already, and gradients and the optimizer's state need the same memory for every batch size.

    Args:
        model: the trained model.
        forward: function that computes the losses of a batch, with an autograd graph.
    """

    def __init__(self, model: Any, forward: Callable[[Batch], Tensor]) -> None:
        self._model, self._forward = model, forward
        self._bytes_per_position: float | None = None
        self._most_positions = 0

    def estimate(self, batch: Batch) -> tuple[int, str] | None:
        """Estimate how many examples of a batch fit into the free memory.

        Only a batch that is larger than all earlier ones is examined. If a first, rough bound exceeds the memory, the
        model is run on one example to measure what it needs; random states are restored afterwards.

        Returns:
            The number of examples that fit, and a text that compares the needed with the free memory; `None` if all
            examples fit, or if the free memory is not known.
        """
        positions = num_positions(self._model, batch)
        if positions <= self._most_positions or batch.num_examples == 1:
            return None
        free = free_bytes(batch.input_ids.device)
        if free is None:
            return None
        largest, self._most_positions = self._most_positions, positions
        if self._most_bytes(batch) <= SHARE * free:
            return None
        if self._bytes_per_position is None:
            one = batch.part(0, 1)
            self._bytes_per_position = self._kept_bytes(one) / num_positions(self._model, one)
        needed = self._bytes_per_position * positions
        if needed <= SHARE * free:
            return None
        self._most_positions = largest
        size = max(1, int(batch.num_examples * SHARE * free / needed))
        return size, f"{needed / 2**30:,.2f} GiB are needed by estimate, and {free / 2**30:,.2f} are free"

    def _most_bytes(self, batch: Batch) -> float:
        """Compute an upper bound of the memory in bytes for a batch's activations, without running the model.

        The bound is infinite if the model's configuration does not state its width, its number of layers or its
        vocabulary.
        """
        sizes = self._model.config.get_text_config().to_dict()
        width, layers, vocabulary = (first_count(sizes, names) for names in (WIDTHS, LAYERS, ("vocab_size",)))
        if width is None or layers is None or vocabulary is None:
            return float("inf")
        heads = first_count(sizes, ("num_attention_heads", "n_head", "num_heads")) or 1
        scores = 2 * heads * batch.input_ids.shape[1]  # of attention that keeps them
        return (
            4 * num_positions(self._model, batch) * (layers * (KEPT_WIDTHS * width + scores) + KEPT_LOGITS * vocabulary)
        )

    def _kept_bytes(self, batch: Batch) -> int:
        """Measure how many bytes a forward pass keeps in memory for its backward pass."""
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # the tensor itself would be a reference cycle

        states = GeneratorStates(batch.input_ids.device)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses = self._forward(batch)
        states.restore()
        for parameter in self._model.parameters():
            kept.pop(parameter.untyped_storage().data_ptr(), None)
        del losses  # until here, the memory of what was kept cannot have been used again
        return sum(kept.values())


def free_bytes(device: torch.device) -> int | None:
    """Return the memory in bytes that a device can still allocate; `None` if it is not known."""
    if device.type == "cpu":
        return free_memory()
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
