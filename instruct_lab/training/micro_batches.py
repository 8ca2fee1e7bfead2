"""Gradients of an optimizer step, computed in micro-batches, which become smaller if memory is exhausted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from instruct_lab.batch_limits import BatchLimits, release_memory
from instruct_lab.batching import Batch
from instruct_lab.batching.division import divide_batch
from instruct_lab.errors import is_out_of_memory, one_line
from instruct_lab.model.generator_states import GeneratorStates
from instruct_lab.training.fitting_size import FittingSize

WORK = "training"
"""Name under which `BatchLimits` stores the largest size of micro-batches in training."""


class StepGradients:
    """Adds up the gradients of one optimizer step, whose batches arrive one after the other.

    If this saves time, a batch is divided into parts, each with examples of similar length. If memory is exhausted, or
    probably would be, the gradients of the step so far are discarded, and random states are reset to those at the start
    of the step. All batches of the step so far are then computed again, in smaller micro-batches.

    Args:
        compute: function that adds a micro-batch's gradients, losses and counts to those of the step, and returns its
            summed loss.
        discard: function that clears the gradients, losses and counts of the step.
        limits: the limits on the sizes of the run's batches.
        fitting: estimator of the number of examples that fit into memory.
        largest: the largest size of a micro-batch; `None`: as many examples as the memory allows.
        is_divisible: whether a batch may be computed in parts.
    """

    def __init__(
        self,
        compute: Callable[[Batch], Tensor],
        discard: Callable[[], None],
        limits: BatchLimits,
        fitting: FittingSize,
        largest: int | None = None,
        is_divisible: bool = True,
    ) -> None:
        self._compute, self._discard = compute, discard
        self._limits, self._fitting = limits, fitting
        self._largest, self._is_divisible = largest, is_divisible
        self._batches: list[list[Batch]] = []  # the batches of the step, each in parts of similar length
        self._states: GeneratorStates | None = None
        self.num_reductions = 0
        """The number of times that the limit was lowered in this step."""

    def add(self, batch: Batch) -> Tensor:
        """Add a batch's gradients to those of the step, and return the batch's summed loss, without an autograd graph.

        Raises:
            Exception: the computation failed, or memory is exhausted even by a single example.
        """
        if self._states is None:
            self._discard()
            self._states = GeneratorStates(batch.input_ids.device)
        parts = divide_batch(batch) if self._is_divisible else [batch]
        self._batches.append(parts)
        loss = None if any(map(self._reduce_to_fit, parts)) else self._try([parts])
        while loss is None:
            self._discard()
            self._states.restore()
            loss = self._try(self._batches)
        return loss

    def end(self) -> None:
        """Forget the batches of the step, so that the next batch starts another one."""
        self._batches.clear()
        self._states = None
        self.num_reductions = 0

    def agree_on_size(self) -> None:
        """Adopt the smallest micro-batch size of all ranks; every rank must call this if one rank ran out of memory."""
        sizes: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(sizes, self.size)
        if min(sizes) < self.size:
            before = min(self.size, max(part.num_examples for parts in self._batches for part in parts))
            self._limits.reduce(WORK, int(before), min(sizes), "on another device")

    @property
    def size(self) -> float:
        """The largest number of examples in a micro-batch; infinity if nothing limits it."""
        limit = self._limits.largest(WORK)
        return limit if self._largest is None else min(limit, self._largest)

    def _reduce_to_fit(self, batch: Batch) -> bool:
        """Reduce the size of micro-batches if a batch would probably exceed the memory; return whether it was reduced.

        Nothing is estimated for a batch that cannot be divided, or that is already computed in micro-batches.
        """
        if not self._is_divisible or batch.num_examples > self.size:
            return False
        estimate = self._fitting.estimate(batch)
        if estimate is None:
            return False
        self._reduce(batch.num_examples, *estimate)
        return True

    def _reduce(self, before: int, now: int, reason: str) -> None:
        self.num_reductions += 1
        self._limits.reduce(WORK, before, now, reason)

    def _try(self, batches: Iterable[list[Batch]]) -> Tensor | None:
        """Add the gradients of batches, and return the summed loss of the last batch.

        If memory is exhausted, halve the size of micro-batches and return `None`.

        Args:
            batches: the batches, each as a list of parts, whose examples have similar lengths.
        """
        loss, size = None, 0
        try:
            for batch in batches:
                losses = []
                for part in batch:
                    size = int(min(self.size, part.num_examples)) if self._is_divisible else part.num_examples
                    losses += [self._compute(piece) for piece in part.parts(size)]
                loss = torch.stack(losses).sum()
            return loss
        except Exception as error:
            if size < 2 or not self._is_divisible or not is_out_of_memory(error):
                raise
            failure = one_line(error)
        release_memory()
        self._reduce(size, (size + 1) // 2, failure)
        return None


class LockstepGradients:
    """Adds up the gradients of one optimizer step of a sharded model, whose ranks must all run equally many passes.

    If memory is exhausted, an error is raised, since a single rank cannot repeat its batches of the step.

    Args:
        compute: function that adds a micro-batch's gradients, losses and counts to those of the step, and returns its
            summed loss.
        discard: function that clears the gradients, losses and counts of the step.
        repeat: function that runs the forward and backward pass of a micro-batch once more without adding anything. A
            rank with fewer micro-batches than another one calls it to keep pace.
        largest: the largest size of a micro-batch; `None`: whole batches.
    """

    num_reductions = 0

    def __init__(
        self,
        compute: Callable[[Batch], Tensor],
        discard: Callable[[], None],
        repeat: Callable[[Batch], None],
        largest: int | None,
    ) -> None:
        self._compute, self._discard, self._repeat, self._largest = compute, discard, repeat, largest
        self._is_started = False

    def add(self, batch: Batch) -> Tensor:
        """Add a batch's gradients to those of the step, and return the batch's summed loss, without an autograd graph.

        Every rank must call this.
        """
        if not self._is_started:
            self._discard()
            self._is_started = True
        size = min(self._largest or batch.num_examples, batch.num_examples)
        parts = list(batch.parts(size))
        losses = [self._compute(part) for part in parts]
        if self._largest is not None:  # without a limit, every rank has one part
            most = torch.tensor(len(parts), device=batch.input_ids.device)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            for _ in range(int(most) - len(parts)):
                self._repeat(parts[-1])
        return torch.stack(losses).sum()

    def end(self) -> None:
        """End the step, so that the next batch starts another one."""
        self._is_started = False

    def agree_on_size(self) -> None:
        """Do nothing, because the size of micro-batches never changes here."""
