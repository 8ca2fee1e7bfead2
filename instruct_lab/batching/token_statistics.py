"""Statistics of the lengths and target tokens of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray

MAX_BINS = 30
TAIL_SHARE = 0.99
"""Share of the examples that have bins of equal width; if the others are much longer, they share a wide last bin."""


def token_statistics(lengths: ndarray, target_lengths: ndarray) -> dict[str, Any]:
    """Compute the token statistics of one split for the audit.

    Args:
        lengths: number of tokens of each example, integers `[examples]`.
        target_lengths: number of target tokens of each example, `[examples]`.

    Returns:
        A dictionary with `examples`, `tokens`, `target_tokens`, `target_share` (`None` without tokens), `longest`,
        `median`, and the histograms `lengths` and `target_lengths`: `{"bounds": [...], "counts": [...]}`, integers, at
        most 30 bins. Every bin includes its lower bound; the last bin also includes its upper bound.
    """
    import numpy

    lengths, target_lengths = numpy.asarray(lengths), numpy.asarray(target_lengths)
    tokens, targets = int(lengths.sum()), int(target_lengths.sum())
    return {
        "examples": len(lengths),
        "tokens": tokens,
        "target_tokens": targets,
        "target_share": targets / tokens if tokens else None,
        "longest": int(lengths.max(initial=0)),
        "median": int(numpy.median(lengths)) if len(lengths) else 0,
        "lengths": length_histogram(lengths),
        "target_lengths": length_histogram(target_lengths),
    }


def length_histogram(lengths: ndarray) -> dict[str, list[int]]:
    """Count lengths in bins of equal width (1, 2 or 5 times a power of ten); a long tail shares a wider last bin."""
    import numpy

    if not len(lengths):
        return {"bounds": [0, 1], "counts": [0]}
    shortest, longest = int(lengths.min()), int(lengths.max())
    usual = int(numpy.quantile(lengths, TAIL_SHARE, method="higher"))
    has_tail = longest - shortest > 2 * (usual - shortest + 1)
    high = usual if has_tail else longest
    width = _width(high - shortest + 1, MAX_BINS - 2)  # rounding both ends outwards may add two bins
    first = shortest // width * width
    bounds = list(range(first, high + 1, width))
    bounds.append(bounds[-1] + width)
    if has_tail:
        bounds.append(max(longest, bounds[-1] + 1))
    counts, _ = numpy.histogram(lengths, bins=numpy.asarray(bounds))
    return {"bounds": bounds, "counts": [int(count) for count in counts]}


def _width(span: int, max_bins: int) -> int:
    power = 1
    while True:
        for digit in (1, 2, 5):
            if span <= digit * power * max_bins:
                return digit * power
        power *= 10
