"""The share of positions that hold padding in padded batches, and the share that hold tokens in packed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray

MAX_PACKED = 20_000
"""Number of examples in the simulation of packing; more examples hardly change the share."""


def padding_share(lengths: ndarray, batch_size: int) -> float:
    """Compute the share of positions in padded batches that hold padding.

    Args:
        lengths: number of tokens of each example, in the order of an epoch: integers `[examples]`.
        batch_size: examples per batch.
    """
    import numpy as np

    if not len(lengths):
        return 0.0
    starts = np.arange(0, len(lengths), batch_size)
    widths = np.maximum.reduceat(lengths, starts)
    slots = int((widths * np.minimum(batch_size, len(lengths) - starts)).sum())
    return 1 - int(lengths.sum()) / slots


def packed_share(lengths: ndarray, row_tokens: int) -> float:
    """Compute the share of positions that hold tokens if whole examples are packed into rows.

    Source: best-fit decreasing bin packing (Johnson et al., 1974).

    Args:
        lengths: number of tokens of each example, at most `row_tokens`; only the first 20,000 examples are used.
        row_tokens: length of a row, in tokens.
    """
    import numpy as np

    lengths = lengths[:MAX_PACKED]
    if not len(lengths):
        return 1.0
    free = np.zeros(row_tokens + 1, dtype=np.int64)  # number of rows with each number of free tokens
    num_rows = 0
    for length, count in sorted(zip(*np.unique(lengths, return_counts=True), strict=True), reverse=True):
        left = int(count)
        while left:
            fitting = np.flatnonzero(free[length:])
            if len(fitting):  # the fullest rows with enough space
                space = int(fitting[0]) + int(length)
                rows = min(left, int(free[space]))
                free[space] -= rows
            else:
                space, rows = row_tokens, 1
                num_rows += 1
            free[space - int(length)] += rows
            left -= rows
    return int(lengths.sum()) / (num_rows * row_tokens)
