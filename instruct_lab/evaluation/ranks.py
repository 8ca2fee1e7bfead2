"""The processes of a multi-device run, which share an evaluation.

Each rank evaluates every n-th example; the results of all ranks are gathered to each of them. With one process, or
before the process group exists, all of this does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from instruct_lab.metrics.gathered_rows import GatheredRows

T = TypeVar("T")


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def num_ranks() -> int:
    """How many processes share the evaluation."""
    return dist.get_world_size() if _is_distributed() else 1


def is_first_rank() -> bool:
    """Whether this process is the one that writes results."""
    return not _is_distributed() or dist.get_rank() == 0


def share_of(count: int) -> range:
    """The indices of the examples that this rank evaluates."""
    return range(dist.get_rank(), count, dist.get_world_size()) if _is_distributed() else range(count)


def gather(indices: Sequence[int], values: Sequence[T], device: torch.device) -> list[T]:
    """The values of all ranks, in the order of the indices; every rank must call this.

    Args:
        indices: of the examples of this rank.
        values: as many, which can be pickled.
        device: where tensors can be exchanged.
    """
    gathered = GatheredRows().to(device)
    gathered.update(indices, values)
    return list(gathered.rows().values())


def wait_for_first_rank() -> None:
    """Wait until the first rank calls this too; every rank must call it."""
    first_rank_value(None)


def first_rank_value(value: T) -> T:
    """The first rank's value, on every rank; every rank must call this."""
    if not _is_distributed():
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, src=0)
    received: T = values[0]
    return received
