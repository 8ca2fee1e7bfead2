"""From rows of statistics to values with bootstrap intervals, and to paired differences.

Percentile bootstrap over examples (Efron, 1979; Koehn, 2004, for corpus scores): each resample draws as many examples
as there are, with replacement; its statistics are summed and turned into one value. The draws depend on nothing but
the seed and the number of examples, so that two systems measured on the same examples are resampled alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from instruct_lab.errors import InstructLabError
from instruct_lab.metrics.base import Metric, MetricValue

if TYPE_CHECKING:
    import numpy as np

DRAWS_AT_ONCE = 1 << 22
TAIL_PERCENT = 2.5

Rows = Sequence[Sequence[float]]


def summarize(metric: Metric, rows: Rows, *, seed: int = 0, resamples: int = 1000) -> MetricValue:
    """The value of all examples together, with its 95% bootstrap interval.

    Args:
        metric: what is measured.
        rows: each example's statistics, `[examples, statistics]`.
        seed: of the resampling.
        resamples: how many times the examples are drawn anew.

    Raises:
        InstructLabError: there is no example.
        ValueError: rows differ in length.
    """
    _checked(rows)
    values = [metric.value(total) for total in _resampled_totals(rows, seed, resamples)]
    low, high = _interval(values)
    return MetricValue(_value(metric, rows), low, high, len(rows), metric.signature_of([list(row) for row in rows]))


def paired_difference(
    metric: Metric, rows_a: Rows, rows_b: Rows, *, seed: int = 0, resamples: int = 1000
) -> MetricValue:
    """How much more b has than a, `value(b) - value(a)`, with its 95% interval by paired bootstrap.

    Both systems are resampled by the same draws of examples, so that what makes an example hard cancels out: a
    difference can be clear although the two systems' own intervals overlap.

    Args:
        metric: what is measured.
        rows_a: one system's statistics, `[examples, statistics]`.
        rows_b: the other's, of the same examples in the same order.
        seed: of the resampling.
        resamples: how many times the examples are drawn anew.

    Raises:
        InstructLabError: there is no example.
        ValueError: the two have different numbers of examples, or rows differ in length.
    """
    if len(rows_a) != len(rows_b):
        raise ValueError(f"paired systems need the same examples: {len(rows_a)} rows against {len(rows_b)}")
    _checked(rows_a)
    _checked(rows_b)
    totals = zip(_resampled_totals(rows_a, seed, resamples), _resampled_totals(rows_b, seed, resamples), strict=True)
    low, high = _interval([metric.value(b) - metric.value(a) for a, b in totals])
    difference = _value(metric, rows_b) - _value(metric, rows_a)
    return MetricValue(difference, low, high, len(rows_a), metric.signature_of([list(row) for row in rows_a]))


def example_scores(metric: Metric, rows: Rows) -> list[float]:
    """The score of each example alone, in order."""
    return [metric.example_score(list(row)) for row in rows]


def _value(metric: Metric, rows: Rows) -> float:
    """The metric of the summed rows; the sums are exact, so the order of the examples does not matter."""
    return metric.value([math.fsum(column) for column in zip(*rows, strict=True)])


def _checked(rows: Rows) -> None:
    if not len(rows):
        raise InstructLabError("There is no example to measure", do="Choose a split that has examples")
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        raise ValueError(f"every example has the same number of statistics, not {sorted(lengths)}")


def _resampled_totals(rows: Rows, seed: int, resamples: int) -> Iterator[list[float]]:
    """The summed statistics of each resample."""
    import numpy as np

    matrix = np.asarray(rows, dtype=np.float64)  # [examples, statistics]
    generator = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // len(matrix))
    for start in range(0, resamples, at_once):
        weights = _multinomial(generator, len(matrix), min(at_once, resamples - start))  # [resamples, examples]
        yield from (weights @ matrix).tolist()


def _multinomial(generator: np.random.Generator, examples: int, resamples: int) -> np.ndarray:
    """How often each resample draws each example: `[resamples, examples]`, every row sums to `examples`."""
    import numpy as np

    draws = generator.integers(examples, size=(resamples, examples))
    places = draws + examples * np.arange(resamples)[:, None]  # one range of places for each resample
    counts = np.bincount(places.ravel(), minlength=resamples * examples)
    return counts.reshape(resamples, examples).astype(np.float64)


def _interval(values: list[float]) -> tuple[float, float]:
    """The middle 95% of the values; values that are not a number are left out."""
    import numpy as np

    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    # Percentiles that are values themselves: between finite and infinite ones nothing can be interpolated.
    method = "linear" if all(map(math.isfinite, known)) else "nearest"
    low, high = np.percentile(known, [TAIL_PERCENT, 100 - TAIL_PERCENT], method=method)  # type: ignore[call-overload]
    return float(low), float(high)
