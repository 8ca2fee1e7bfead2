"""Batches of examples of similar length, with a limit on the number of tokens in a batch, including padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

    from instruct_lab.batching.example import Example

MAX_PADDING = 1.2
"""Maximum ratio of a batch's number of tokens with padding to that without padding."""


def batches_by_length(
    widths: numpy.ndarray,
    batch_tokens: int,
    *,
    num_devices: int = 1,
    added: int = 0,
    max_rows: int | None = None,
    min_rows: int = 1,
    max_padding: float = MAX_PADDING,
) -> list[numpy.ndarray]:
    """Divide examples into batches, each of which holds examples of similar length, the longest first.

    An example that would make a batch exceed one of the limits starts the next batch. An example that exceeds
    `batch_tokens` forms a batch of its own.

    Args:
        widths: number of tokens of each example, integers `[examples]`. If an example consists of several sequences
            that are padded separately, such as the two answers of a pair: number of tokens of each sequence, integers
            `[examples, sequences]`.
        batch_tokens: maximum number of tokens in a batch on each device, including padding.
        num_devices: number of devices that share each batch.
        added: number of tokens that each example adds to the batch later, such as those of its answer.
        max_rows: maximum number of examples in a batch, on all devices together; `None`: no limit.
        min_rows: minimum number of examples in a batch, on all devices together; it takes precedence over the limits.
        max_padding: maximum ratio of a batch's number of tokens with padding to that without padding; with 1, all
            examples of a batch have the same length.

    Returns:
        The indices of the examples of each batch: int64 `[examples of the batch]`.
    """
    import numpy as np

    table = widths[:, None] if widths.ndim == 1 else widths
    order = np.lexsort(-table.T[::-1].astype(np.int64))  # by the first sequence, then the second; ties keep their order
    bounds, num_tokens, widest = [0], 0, (0,) * table.shape[1]
    for position, row in enumerate(table[order].tolist()):
        count, tokens = position - bounds[-1] + 1, num_tokens + sum(row)
        together = tuple(map(max, widest, row))
        positions = sum(together)
        if count > min_rows and (
            -(-count // num_devices) * (positions + added) > batch_tokens
            or count * positions > max_padding * tokens
            or (max_rows is not None and count > max_rows)
        ):
            bounds.append(position)
            tokens, together = sum(row), tuple(row)
        num_tokens, widest = tokens, together
    if len(bounds) > 1 and len(order) - bounds[-1] < min_rows:
        bounds.pop()
    return np.split(order, bounds[1:]) if len(order) else []


def widths_of(examples: Sequence[Example]) -> numpy.ndarray:
    """Return the number of tokens of each sequence of each example, `[examples, sequences]`.

    An example has one sequence; a preference pair has two, one for each answer. An encoder-decoder's labels are padded
    separately, so they count as sequences too.
    """
    import numpy as np

    known: numpy.ndarray | None = getattr(examples, "widths", None)
    if known is not None:
        return known
    lengths = [
        (len(one.input_ids), len(one.labels), len(other.input_ids), len(other.labels))
        if (other := one.rejected) is not None
        else (len(one.input_ids), len(one.labels), 0, 0)
        for one in examples
    ]
    return join_widths(*np.array(lengths, dtype=np.int64).reshape(-1, 4).T)


def join_widths(
    inputs: numpy.ndarray, labels: numpy.ndarray, rejected_inputs: numpy.ndarray, rejected_labels: numpy.ndarray
) -> numpy.ndarray:
    """Join the lengths of all sequences of each example into one array, `[examples, sequences]`.

    Inputs are one sequence. Labels are a further one only for encoder-decoders, whose inputs and labels differ in
    length. Both answers of a pair get the length of the longer one. If only some examples are preference pairs, the
    second answer has length 0 for all other examples.

    Args:
        inputs: number of tokens that the model reads, `[examples]`.
        labels: number of labels, `[examples]`.
        rejected_inputs: number of tokens that the model reads for the rejected answer, `[examples]`; 0 for an example
            that is not a pair.
        rejected_labels: number of labels of the rejected answer, `[examples]`; 0 for an example that is not a pair.
    """
    import numpy as np

    chosen, rejected = [inputs], [rejected_inputs]
    if (inputs != labels).any():
        chosen, rejected = [inputs, labels], [rejected_inputs, rejected_labels]
    if rejected_inputs.any():
        is_pair = rejected_inputs > 0
        chosen = [np.maximum(one, other) for one, other in zip(chosen, rejected, strict=True)]
        chosen = [*chosen, *(one * is_pair for one in chosen)]
    return np.stack(chosen, axis=1)
