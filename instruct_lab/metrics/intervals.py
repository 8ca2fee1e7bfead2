"""Metric values and paired differences with bootstrap intervals, computed from the statistics of each example.

The intervals are percentile bootstrap intervals over examples (Efron, 1979; for corpus scores: Koehn, 2004). Each
resample draws as many examples as the whole set has, with replacement, and computes one value from their summed
statistics. The draws depend only on the seed and the number of examples, so two systems measured on the same examples
are resampled in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError
from instruct_lab.metrics.base import AnswerMetric, Metric, MetricValue, Row, Statistics

if TYPE_CHECKING:
    import numpy as np

DRAWS_AT_ONCE = 1 << 22
TAIL_PERCENT = 2.5

Rows = Sequence[Any]
"""The rows of all examples, in order."""


def summarize(metric: Metric, rows: Rows, *, seed: int = 0, resamples: int = 1000) -> MetricValue:
    """Compute the value of all examples together, with its 95% bootstrap interval.

    Args:
        metric: the metric to compute.
        rows: the statistics of each example, `[examples, statistics]`.
        seed: random seed for the resampling.
        resamples: the number of bootstrap samples.

    Raises:
        InstructLabError: there is no example.
        ValueError: examples differ in their number of statistics.
    """
    low, high = interval(resampled_values(metric, rows, seed=seed, resamples=resamples))
    signature = metric.signature_of(list(rows))
    return MetricValue(corpus_value(metric, rows), low, high, len(rows), signature)


def paired_difference(
    metric: Metric, rows_a: Rows, rows_b: Rows, *, seed: int = 0, resamples: int = 1000
) -> MetricValue:
    """Compute the difference `value(b) - value(a)` with its 95% interval by paired bootstrap.

    Both systems are resampled with the same draws of examples, so that the difficulty of an example cancels out. A
    difference can be significant although the intervals of the two systems overlap.

    Args:
        metric: the metric to compute.
        rows_a: the statistics of one system, `[examples, statistics]`.
        rows_b: the statistics of the other system for the same examples in the same order.
        seed: random seed for the resampling.
        resamples: the number of bootstrap samples.

    Raises:
        InstructLabError: there is no example.
        ValueError: the systems differ in their number of examples, or examples in their number of statistics.
    """
    if len(rows_a) != len(rows_b):
        raise ValueError(f"paired systems need the same examples: {len(rows_a)} rows against {len(rows_b)}")
    a, b = (resampled_values(metric, rows, seed=seed, resamples=resamples) for rows in (rows_a, rows_b))
    low, high = interval([later - earlier for earlier, later in zip(a, b, strict=True)])
    difference = corpus_value(metric, rows_b) - corpus_value(metric, rows_a)
    return MetricValue(difference, low, high, len(rows_a), metric.signature_of(list(rows_a)))


def resampled_values(metric: Metric, rows: Rows, *, seed: int = 0, resamples: int = 1000) -> list[float]:
    """Compute the metric of each resample; the draws depend only on the seed and the number of examples.

    Raises:
        InstructLabError: there is no example.
        ValueError: examples differ in their number of statistics.
    """
    return [metric.value(total) for total in _resampled_totals(_parts(metric, rows), seed, resamples)]


def corpus_value(metric: Metric, rows: Rows) -> float:
    """Compute the metric of all examples together.

    Raises:
        InstructLabError: there is no example.
        ValueError: examples differ in their number of statistics.
    """
    return _value(metric, _parts(metric, rows))


def example_scores(metric: Metric, rows: Rows) -> list[float]:
    """Compute the score of each example, in the order of the rows."""
    return [metric.example_score(list(part)) for part in metric.parts(list(rows))]


def corpus_rows(metric: AnswerMetric[Row], answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[Row]:
    """Compute the statistics of each example by comparing its answer with its references.

    Args:
        metric: the metric to compute.
        answers: one answer for each example.
        references: a group of acceptable answers for each example.

    Raises:
        InstructLabError: an example has no reference.
        ValueError: the numbers of answers and of groups of references differ.
        TypeError: the references of an example are one text instead of a group of texts.
    """
    if len(answers) != len(references):
        raise ValueError(f"every answer needs its references: {len(answers)} answers against {len(references)} groups")
    if any(isinstance(group, str) for group in references):
        raise TypeError("the references of an example are a group of texts, not one text")
    return [metric.statistics(answer, tuple(group)) for answer, group in zip(answers, references, strict=True)]


def _value(metric: Metric, rows: list[Statistics]) -> float:
    """Sum the rows and compute the metric; the sums are exact, so the order of the examples does not matter."""
    return metric.value([math.fsum(column) for column in zip(*rows, strict=True)])


def _parts(metric: Metric, rows: Rows) -> list[Statistics]:
    """Return the statistics of each example that are to be summed.

    Raises:
        InstructLabError: there is no example.
        ValueError: examples differ in their number of statistics.
    """
    if not len(rows):
        raise InstructLabError("There is no example to measure", do="Choose a split that has examples")
    parts = metric.parts(list(rows))
    lengths = {len(part) for part in parts}
    if len(lengths) != 1:
        raise ValueError(f"every example has the same number of statistics, not {sorted(lengths)}")
    return parts


def _resampled_totals(rows: list[Statistics], seed: int, resamples: int) -> Iterator[list[float]]:
    """Yield the summed statistics of each resample."""
    import numpy as np

    matrix = np.asarray(rows, dtype=np.float64)  # [examples, statistics]
    generator = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // len(matrix))
    for start in range(0, resamples, at_once):
        weights = _multinomial(generator, len(matrix), min(at_once, resamples - start))  # [resamples, examples]
        yield from (weights @ matrix).tolist()


def _multinomial(generator: np.random.Generator, examples: int, resamples: int) -> np.ndarray:
    """Draw `examples` examples for each resample; return how often each was drawn, `[resamples, examples]`."""
    import numpy as np

    draws = generator.integers(examples, size=(resamples, examples))
    cells = draws + examples * np.arange(resamples)[:, None]  # a separate range of numbers for each resample
    counts = np.bincount(cells.ravel(), minlength=resamples * examples)
    return counts.reshape(resamples, examples).astype(np.float64)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 2.5th and the 97.5th percentile of the values, ignoring NaN."""
    import numpy as np

    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    # Percentiles cannot be interpolated between infinite values, so an existing value is used.
    method = "linear" if all(map(math.isfinite, known)) else "nearest"
    low, high = np.percentile(known, [TAIL_PERCENT, 100 - TAIL_PERCENT], method=method)  # type: ignore[call-overload]
    return float(low), float(high)
