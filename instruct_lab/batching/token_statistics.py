"""Statistics of the lengths and target tokens of examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import ndarray

MAX_BINS = 30
TAIL_SHARE = 0.99
"""The shortest 99% of the examples have bins of equal width; if the others are much longer, they share a wide last bin.
"""


def token_statistics(lengths: ndarray, target_lengths: ndarray) -> dict[str, Any]:
    """Compute the token statistics of one split for the audit, the run's report on its data.

    Args:
        lengths: number of tokens of each example, integers `[examples]`.
        target_lengths: number of target tokens of each example, `[examples]`.

    Returns:
        A dictionary with the numbers of `examples`, `tokens` and `target_tokens`, the `target_share` (`None` if there
        are no tokens), the `longest` and the `median` length, and the histograms `lengths` and `target_lengths`.

        A histogram is `{"bounds": [...], "counts": [...]}`, with integers and at most 30 bins. Every bin includes its
        lower bound; the last bin also includes its upper bound.
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
    """Count lengths in bins of equal width, which is 1, 2 or 5 times a power of ten.

    If the longest one percent are much longer than the others, they share a last bin, which is wider.

    Returns:
        A dictionary with `bounds` (the lower bound of each bin, and the upper bound of the last one) and `counts` (the
        number of lengths in each bin).
    """
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
