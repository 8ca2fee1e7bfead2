"""Limits on batch sizes; when memory is exhausted, a limit is lowered, and the work is done in smaller parts."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from instruct_lab.errors import is_out_of_memory, one_line
from instruct_lab.terminal import write_line

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Reduction:
    """A change of the largest batch size to a smaller one, because memory was exhausted.

    Args:
        work: the kind of work: `training`, whose batch sizes are in examples, or any other, such as `validation` or
            `answers`, whose batch sizes are in tokens, including padding.
        step: the optimizer step, counted from 1; 0 before training.
        before: size of the batch that did not fit into memory, in examples or tokens.
        now: the largest size of a batch from this step on, in examples or tokens.
        error: the message of the out-of-memory exception, or another reason, such as an estimate of the memory.
    """

    work: str = ""
    step: int = 0
    before: int = 0
    now: int = 1
    error: str = ""

    def __str__(self) -> str:
        when = f" in step {self.step}" if self.step else ""
        unit = "examples" if self.work == "training" else "tokens"
        return (
            f"memory does not suffice{when} ({self.work}: {self.error}): from now on, at most {self.now:,} {unit} are "
            f"computed at a time instead of {self.before:,}, with the same results up to rounding"
        )


class BatchLimits:
    """The largest sizes of batches that may be computed at once, with one limit for each kind of work.

    Args:
        reductions: reductions that were recorded before the run was resumed. In the resumed run, each one applies again
            from the optimizer step at which it was recorded.
        report: function that reports a new reduction; by default, it is printed.
    """

    def __init__(self, reductions: Iterable[Reduction] = (), report: Callable[[Reduction], None] | None = None) -> None:
        self._reductions = list(reductions)
        self._report = report or (lambda reduction: write_line(f"warning: {reduction}", error=True))
        self.step = 0  # the current optimizer step, counted from 1

    def largest(self, work: str) -> float:
        """Return the largest batch size for a kind of work in the current step; infinity if there is no limit."""
        return min(
            (one.now for one in self._reductions if one.work == work and one.step <= self.step), default=math.inf
        )

    def reduce(self, work: str, before: int, now: int, error: str) -> None:
        """Lower the limit of this kind of work from the current step on, and report it.

        Args:
            work: the kind of work, such as `training`.
            before: size of the batch that did not fit into memory: in examples for `training`, otherwise in tokens.
            now: the largest size of a batch from now on, in the same unit as `before`.
            error: the message of the out-of-memory exception, or another reason, such as an estimate of the memory.
        """
        reduction = Reduction(work, self.step, before, now, error)
        self._reductions.append(reduction)
        self._report(reduction)


_active: contextvars.ContextVar[BatchLimits | None] = contextvars.ContextVar("batch_limits", default=None)


@contextlib.contextmanager
def apply_limits(limits: BatchLimits) -> Iterator[None]:
    """Use these limits for all work in the block."""
    token = _active.set(limits)
    try:
        yield
    finally:
        _active.reset(token)


def current_limits() -> BatchLimits:
    """Return the limits of the surrounding `apply_limits` block.

    Outside such a block, the first call in a thread creates limits, and later calls in the thread return the same ones.
    """
    limits = _active.get()
    if limits is None:
        limits = BatchLimits()
        _active.set(limits)
    return limits


def compute_in_parts(
    work: str,
    items: Sequence[Item],
    compute: Callable[[Sequence[Item]], Result],
    size: Callable[[Sequence[Item]], int],
    is_divisible: bool = True,
) -> list[Result]:
    """Compute something for all items at once; if memory is exhausted, halve the items until each part fits.

    The size that fitted becomes the limit of this kind of work, so later calls divide their items before computing.

    Args:
        work: the kind of work, such as `training`; each kind has its own limit.
        items: the items, at least one.
        compute: function that computes the result of some items; it must leave no partial result when it fails.
        size: function that returns the size of some items, in the unit of the limit (examples or tokens).
        is_divisible: whether the items may be computed in parts; otherwise, they are always computed at once.

    Returns:
        The result of each part, in the order of the items.

    Raises:
        Exception: the exception of `compute`, if it does not mean exhausted memory, or if a single item does not fit.
    """
    if not is_divisible:
        return [compute(items)]
    limits = current_limits()

    def halve(part: Sequence[Item]) -> list[Result]:
        middle = (len(part) + 1) // 2
        return [*run(part[:middle]), *run(part[middle:])]

    def run(part: Sequence[Item]) -> list[Result]:
        if len(part) > 1 and size(part) > limits.largest(work):
            return halve(part)
        try:
            return [compute(part)]
        except Exception as error:
            if len(part) == 1 or not is_out_of_memory(error):
                raise
            failure = one_line(error)
        release_memory()
        middle = (len(part) + 1) // 2
        limits.reduce(work, size(part), max(size(part[:middle]), size(part[middle:])), failure)
        return halve(part)

    return run(items)


def release_memory() -> None:
    """Free the memory of a failed computation.

    Call this after the `except` block: inside it, the traceback still refers to the tensors.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
