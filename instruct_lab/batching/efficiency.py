"""The share of positions that hold padding in padded batches, and the share that hold tokens in packed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruct_lab.batching.packing import Packing, best_fit

if TYPE_CHECKING:
    from numpy import ndarray

MAX_PACKED = 20_000
"""Number of examples that `packed_share` packs for its estimate; more of them would hardly change the result."""


def padding_share(lengths: ndarray, batch_size: int, packing: Packing | None = None) -> float:
    """Compute the share of padding among all positions of the batches of an epoch.

    Args:
        lengths: number of tokens of each example, in the order of an epoch: integers `[examples]`.
        batch_size: number of examples in a batch.
        packing: how the examples of a batch are packed; `None`: they are padded to the longest one.
    """
    import numpy as np

    if not len(lengths):
        return 0.0
    starts = np.arange(0, len(lengths), batch_size)
    if packing is None:
        widths = np.maximum.reduceat(lengths, starts)
        slots = int((widths * np.minimum(batch_size, len(lengths) - starts)).sum())
    else:
        batches = [packing.rows(lengths[start : start + batch_size].tolist()) for start in starts]
        slots = sum(len(rows) * width for rows, width in batches)
    return 1 - int(lengths.sum()) / slots


def packed_share(lengths: ndarray, row_tokens: int) -> float:
    """Compute the share of positions that hold tokens if whole examples of a split are packed into rows.

    Args:
        lengths: number of tokens of each example, at most `row_tokens`; only the first 20,000 examples are used.
        row_tokens: length of a row, in tokens.
    """
    some: list[int] = lengths[:MAX_PACKED].tolist()
    return sum(some) / (len(best_fit(some, row_tokens)) * row_tokens) if some else 1.0
