"""Division of a batch into parts of similar length, so that less padding is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from instruct_lab.batching.example import IGNORED
from instruct_lab.batching.prefixes import PASS_POSITIONS

if TYPE_CHECKING:
    from instruct_lab.batching.batch import Batch


def divide_batch(batch: Batch) -> list[Batch]:
    """Divide a batch on a CPU into parts of consecutive examples, if this saves time because less padding is computed.

    Every part needs its own forward and backward pass, whose fixed cost equals that of computing `PASS_POSITIONS` (40)
    positions. On other devices the cost of a pass is not known, so the batch stays whole. Packed rows have no padding
    to save.

    Returns:
        The parts, in the order of the examples. If no division saves time, the list holds only the batch itself.
    """
    is_on_cpu = batch.input_ids.device.type == "cpu"
    if batch.join is None or batch.packing is not None or batch.num_examples < 2 or not is_on_cpu:
        return [batch]
    shared = 0
    if batch.prefixes is not None and len(batch.prefixes.levels[0].input_ids) == 1:
        shared = batch.prefixes.levels[0].input_ids.shape[1]
    bounds = divide_lengths(_lengths(batch), shared)
    if len(bounds) == 1:
        return [batch]
    parts = [batch.part(start, end) for start, end in bounds]
    return parts if sum(map(_work, parts)) < _work(batch) else [batch]


def divide_lengths(lengths: np.ndarray, shared: int = 0) -> list[tuple[int, int]]:
    """Divide examples into parts of consecutive examples so that the total work is the smallest possible.

    The work of a part is the number of positions in its rows, which are padded to the longest row, plus a fixed cost of
    `PASS_POSITIONS` (40) positions for every pass through the model.

    Args:
        lengths: int64 `[examples, sequences]`, lengths of each example's sequences. A pair has a sequence for each
            answer, and an encoder-decoder reads input and labels as two sequences, each padded separately.
        shared: number of leading tokens that all sequences share; each part computes them once, in an additional pass.

    Returns:
        The index of the first example of each part, and the index after its last one.

    Example:
        >>> divide_lengths(np.array([[60], [62], [65], [300]]))
        [(0, 3), (3, 4)]
    """
    examples, sequences = lengths.shape
    passes = PASS_POSITIONS * (2 if shared else 1)
    work, starts = np.zeros(examples + 1), [0] * (examples + 1)
    for end in range(1, examples + 1):
        longest = np.maximum.accumulate(lengths[:end][::-1])[::-1].sum(axis=1)  # of a part from each start to the end
        positions = shared + np.arange(end, 0, -1) * (longest - sequences * shared)
        total = work[:end] + passes + positions
        starts[end] = int(np.argmin(total))
        work[end] = total[starts[end]]
    bounds, end = [], examples
    while end:
        bounds.append((starts[end], end))
        end = starts[end]
    return bounds[::-1]


def _lengths(batch: Batch) -> np.ndarray:
    """Return the lengths of the sequences of each example, `[examples, sequences]`.

    The first sequence is the text that the model reads. If the batch has pairs, the second one is the text with the
    rejected answer; its length is 0 for an example that is not a pair. For encoder-decoders, the labels are further
    sequences.
    """
    count = batch.num_examples
    rows = batch.attention_mask.sum(dim=1).numpy()
    sequences = [rows[:count]]
    if len(rows) > count:
        rejected = np.zeros_like(rows[:count])
        rejected[slice(None) if batch.owners is None else batch.owners[count:].numpy()] = rows[count:]
        sequences.append(rejected)
    if batch.labels.shape[1] != batch.input_ids.shape[1]:  # the targets of an encoder-decoder
        targets = (batch.labels != IGNORED).sum(dim=1).numpy()
        sequences += [targets[:count], targets[count:]] if len(rows) == 2 * count else [targets[:count]]
    return np.stack(sequences, axis=1)


def _work(batch: Batch) -> int:
    """Return the number of positions that a model computes for a batch, plus the fixed cost of each pass."""
    if batch.prefixes is not None:
        return batch.prefixes.num_positions + PASS_POSITIONS * len(batch.prefixes.levels)
    targets = batch.labels.numel() if batch.labels.shape != batch.input_ids.shape else 0
    return batch.num_positions + targets + PASS_POSITIONS
