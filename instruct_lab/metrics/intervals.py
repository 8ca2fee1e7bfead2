"""Metric values and paired differences with bootstrap intervals, computed from the statistics of each example.

The statistics of an example are numbers that a metric sums over examples, such as its counts of matches and words. The
intervals are percentile bootstrap intervals (Efron, 1979; for corpus scores: Koehn, 2004). They resample units, which
are single examples, or clusters of related examples. Each resample draws as many units as there are, with replacement,
and computes one value from their summed statistics. The draws depend only on the seed and the number of units, so two
systems measured on the same examples are resampled in the same way.

With fewer than 96 units (`FEW_UNITS`), a percentile interval is too narrow. Such an interval is widened to the width of
an interval from Student's t distribution, and the value's signature (the text on how it is computed) says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.metrics.base import AnswerMetric, Metric, MetricValue, Row, Statistics
from instruct_lab.metrics.resampling import (
    CHANGED_WIDTH,
    FEW_UNITS,
    Units,
    influences,
    limits,
    totals,
    units_of,
    widening,
)

TAIL_PERCENT = 2.5
WIDENED = "|interval:t-percentile"
"""Text in a value's signature if its interval was widened, since it was computed from few units."""

Rows = Sequence[Any]
"""For each example, the data that a metric stores for it: numbers to sum, or the answer."""


def summarize(
    metric: Metric, rows: Rows, *, clusters: Sequence[str] = (), seed: int = 0, resamples: int = 1000
) -> MetricValue:
    """Compute the metric's value for all examples together, with its 95% bootstrap interval.

    Args:
        metric: the metric to compute.
        rows: for each example, its statistics (the numbers that the metric sums over examples), or for some metrics its
            answer.
        clusters: name of each example's cluster, or an empty name if it has none; an empty list if no example has one.
        seed: random seed for the resampling.
        resamples: the number of bootstrap samples.

    Raises:
        InstructLabError: there is no example.
        ValueError: examples differ in their number of statistics.
    """
    parts = [corpus_parts(metric, rows)]
    return _measured(
        metric, parts, [1.0], corpus_value(metric, rows), metric.signature_of(list(rows)), clusters, seed, resamples
    )


def paired_difference(
    metric: Metric,
    rows_a: Rows,
    rows_b: Rows,
    *,
    clusters: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 1000,
) -> MetricValue:
    """Compute the difference `value(b) - value(a)` of two systems, with its 95% interval by paired bootstrap.

    Both systems are resampled with the same draws of examples, so that the difficulty of an example cancels out. A
    difference can be significant although the intervals of the two systems overlap.

    Args:
        metric: the metric to compute.
        rows_a: for each example, the statistics of system a (the numbers that the metric sums over examples), or for
            some metrics its answer.
        rows_b: the statistics or answers of system b for the same examples, in the same order.
        clusters: name of each example's cluster, or an empty name if it has none; an empty list if no example has one.
        seed: random seed for the resampling.
        resamples: the number of bootstrap samples.

    Raises:
        InstructLabError: there is no example.
        ValueError: the systems differ in their number of examples, or examples in their number of statistics.
    """
    if len(rows_a) != len(rows_b):
        raise ValueError(f"paired systems need the same examples: {len(rows_a)} rows against {len(rows_b)}")
    parts = [corpus_parts(metric, rows) for rows in (rows_a, rows_b)]
    difference = _value(metric, parts[1]) - _value(metric, parts[0])
    signature = metric.signature_of(list(rows_a))
    return _measured(metric, parts, [-1.0, 1.0], difference, signature, clusters, seed, resamples)


def _measured(
    metric: Metric,
    parts: Sequence[list[Statistics]],
    signs: Sequence[float],
    value: float,
    signature: str,
    clusters: Sequence[str],
    seed: int,
    resamples: int,
) -> MetricValue:
    """Compute the bootstrap interval of one system's value, or of the difference between two systems' values.

    Args:
        metric: the metric.
        parts: for each system, the statistics of its examples.
        signs: for each system, the number by which its value is multiplied before the values are added up: `[1]` for
            one system, `[-1, 1]` for a difference.
        value: the value or the difference.
        signature: description of how the value is computed. The returned value's signature also has the number of
            clusters if clusters are resampled, and `|interval:t-percentile` if the interval is widened.
        clusters: name of each example's cluster, or an empty name if it has none; an empty list if no example has one.
        seed: random seed for the resampling.
        resamples: the number of bootstrap samples.
    """
    units = units_of(clusters, len(parts[0]))
    low, high, method = _interval_over(units, metric, parts, signs, value, seed, resamples)
    by_example = None
    if units.resamples_clusters:
        signature += f"|clusters:{units.count}"
        single = _interval_over(Units(None, len(parts[0])), metric, parts, signs, value, seed, resamples)[:2]
        by_example = single if differ_in_width((low, high), single) else None
    return MetricValue(value, low, high, len(parts[0]), signature + method, by_example=by_example)


def differ_in_width(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether the widths of two intervals differ by more than a tenth (`CHANGED_WIDTH`) of the second width."""
    widths = first[1] - first[0], second[1] - second[0]
    return all(map(math.isfinite, widths)) and abs(widths[0] - widths[1]) > CHANGED_WIDTH * widths[1]


def _interval_over(
    units: Units,
    metric: Metric,
    parts: Sequence[list[Statistics]],
    signs: Sequence[float],
    value: float,
    seed: int,
    resamples: int,
) -> tuple[float, float, str]:
    """Compute the bootstrap interval by resampling `units`.

    Returns:
        The lower end and the upper end of the interval, and a text to append to the signature:
        `|interval:t-percentile` if there are so few units that the interval was widened, else an empty text.
    """
    import numpy as np

    resampled = [_values(metric, totals(units.sums(part), seed, resamples)) for part in parts]
    values = np.asarray(signs) @ np.asarray(resampled)  # [resamples]
    if units.count < FEW_UNITS and math.isfinite(value):
        contributions = [influences(metric, units.sums(part)) for part in parts]
        if all(one is not None for one in contributions):
            factors = widening(np.asarray(signs) @ np.asarray(contributions), resamples)
            ends = [
                sorted(sign * end for end in limits(metric, units.sums(p)))
                for sign, p in zip(signs, parts, strict=True)
            ]
            low, high = map(sum, zip(*ends, strict=True))
            return *interval(np.clip(value + factors * (values - value), low, high).tolist()), WIDENED
    return *interval(values.tolist()), ""


def _values(metric: Metric, resampled: Iterable[Statistics]) -> list[float]:
    """Compute the metric's value for each resample, given its summed statistics.

    Resamples with equal sums, which are frequent with few units, are computed once.
    """
    known: dict[tuple[float, ...], float] = {}
    values = []
    for total in resampled:
        key = tuple(total)
        if key not in known:
            known[key] = metric.value(total)
        values.append(known[key])
    return values


def corpus_value(metric: Metric, rows: Rows) -> float:
    """Compute the metric's value for all examples together.

    Raises:
        InstructLabError: there is no example.
        ValueError: examples differ in their number of statistics.
    """
    return _value(metric, corpus_parts(metric, rows))


def example_scores(metric: Metric, rows: Rows) -> list[float]:
    """Compute the score of each example, in the order of the rows."""
    return [metric.example_score(list(part)) for part in metric.parts(list(rows))]


def corpus_rows(metric: AnswerMetric[Row], answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[Row]:
    """Compute the statistics of each example by comparing its answer with its references.

    Args:
        metric: the metric to compute.
        answers: one answer for each example.
        references: for each example, a sequence of acceptable answers.

    Raises:
        InstructLabError: an example has no reference.
        ValueError: `answers` and `references` have different lengths.
        TypeError: the references of an example are one text instead of a sequence of texts.
    """
    if len(answers) != len(references):
        raise ValueError(f"every answer needs its references: {len(answers)} answers against {len(references)} groups")
    if any(isinstance(group, str) for group in references):
        raise TypeError("the references of an example are a group of texts, not one text")
    return [metric.statistics(answer, tuple(group)) for answer, group in zip(answers, references, strict=True)]


def _value(metric: Metric, rows: list[Statistics]) -> float:
    """Sum the statistics over examples and compute the metric's value from the sums.

    The sums are exact, so the order of the examples does not matter.
    """
    return metric.value([math.fsum(column) for column in zip(*rows, strict=True)])


def corpus_parts(metric: Metric, rows: Rows) -> list[Statistics]:
    """Return the numbers that the metric sums over the examples (their statistics), one list for each example.

    Most metrics store these numbers in `rows`. Other metrics store the answers, and compute the numbers from all of
    them.

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


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 2.5th and the 97.5th percentile of the values, ignoring NaN; both are NaN if all values are."""
    import numpy as np

    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    # Percentiles cannot be interpolated between infinite values, so an existing value is used.
    method = "linear" if all(map(math.isfinite, known)) else "nearest"
    low, high = np.percentile(known, [TAIL_PERCENT, 100 - TAIL_PERCENT], method=method)  # type: ignore[call-overload]
    return float(low), float(high)
