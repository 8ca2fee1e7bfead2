"""Sharing of an evaluation between the processes of a multi-device run.

The examples are sorted by length and dealt out to the ranks in turn, so that all ranks have about the same number of
tokens. Then every rank receives the results of all ranks. With one process, or before the process group exists, the
process evaluates all examples itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from instruct_lab.errors import InstructLabError
from instruct_lab.metrics.gathered_rows import GatheredRows

T = TypeVar("T")


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def num_ranks() -> int:
    """Return the number of processes that share the evaluation."""
    return dist.get_world_size() if _is_distributed() else 1


def is_first_rank() -> bool:
    """Whether this process is the rank that writes results."""
    return not _is_distributed() or dist.get_rank() == 0


def divide_by_length(lengths: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Divide examples between ranks, so that each rank has about the same total length of examples.

    The totals of two ranks differ by at most the length of the longest example.

    Args:
        lengths: length of each example.
        num_ranks: number of ranks.

    Returns:
        For each rank, the indices of its examples in ascending order.
    """
    by_length = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [sorted(by_length[rank::num_ranks]) for rank in range(num_ranks)]


@dataclasses.dataclass(frozen=True)
class _Failure:
    error: Exception


def evaluate_shared(
    lengths: Sequence[int], evaluate: Callable[[Sequence[int]], Sequence[T]], device: torch.device
) -> list[T]:
    """Evaluate examples on all ranks and return all results on each rank; every rank must call this.

    An error on one rank is raised on every rank, so that no rank waits forever.

    Args:
        lengths: length of each example, by which the examples are divided.
        evaluate: function that evaluates the examples at given indices and returns a picklable result for each.
        device: device on which the ranks can exchange tensors.
    """
    error: Exception | None = None
    gathered = GatheredRows().to(device)
    indices = divide_by_length(lengths, num_ranks())[dist.get_rank() if _is_distributed() else 0]
    try:
        gathered.update(indices, evaluate(indices))
    except Exception as raised:
        error = raised
        known = isinstance(raised, InstructLabError)  # other errors may not be picklable
        failure = raised if known else RuntimeError(f"{type(raised).__name__} on rank {dist.get_rank()}: {raised}")
        gathered.update([-1 - dist.get_rank()], [_Failure(failure)])
    results = list(gathered.rows().values())
    if error is not None:
        raise error
    for result in results:
        if isinstance(result, _Failure):
            raise result.error
    return results


def wait_for_first_rank() -> None:
    """Wait until the first rank has called this function; every rank must call it."""
    first_rank_value(None)


def first_rank_value(value: T) -> T:
    """Return the first rank's value on every rank; every rank must call this."""
    if not _is_distributed():
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, src=0)
    received: T = values[0]
    return received
