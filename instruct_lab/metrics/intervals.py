"""From rows of statistics to values with bootstrap intervals, and to paired differences.

Percentile bootstrap over examples (Efron, 1979; Koehn, 2004, for corpus scores): each resample draws as many examples
as there are, with replacement; its statistics are summed and turned into one value. The draws depend on nothing but
the seed and the number of examples, so that two systems measured on the same examples are resampled alike.
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
"""What a metric keeps of each example, in the examples' order."""


def summarize(metric: Metric, rows: Rows, *, seed: int = 0, resamples: int = 1000) -> MetricValue:
    """The value of all examples together, with its 95% bootstrap interval.

    Args:
        metric: what is measured.
        rows: each example's statistics, `[examples, statistics]`.
        seed: of the resampling.
        resamples: the number of bootstrap samples.

    Raises:
        InstructLabError: there is no example.
        ValueError: what is summed differs in length.
    """
    low, high = interval(resampled_values(metric, rows, seed=seed, resamples=resamples))
    signature = metric.signature_of(list(rows))
    return MetricValue(corpus_value(metric, rows), low, high, len(rows), signature)


def paired_difference(
    metric: Metric, rows_a: Rows, rows_b: Rows, *, seed: int = 0, resamples: int = 1000
) -> MetricValue:
    """The difference `value(b) - value(a)` with its 95% interval by paired bootstrap.

    Both systems are resampled by the same draws of examples, so that the difficulty of an example cancels out: a
    difference can be significant although the two systems' intervals overlap.

    Args:
        metric: what is measured.
        rows_a: one system's statistics, `[examples, statistics]`.
        rows_b: the other's, of the same examples in the same order.
        seed: of the resampling.
        resamples: the number of bootstrap samples.

    Raises:
        InstructLabError: there is no example.
        ValueError: the two have different numbers of examples, or what is summed differs in length.
    """
    if len(rows_a) != len(rows_b):
        raise ValueError(f"paired systems need the same examples: {len(rows_a)} rows against {len(rows_b)}")
    a, b = (resampled_values(metric, rows, seed=seed, resamples=resamples) for rows in (rows_a, rows_b))
    low, high = interval([later - earlier for earlier, later in zip(a, b, strict=True)])
    difference = corpus_value(metric, rows_b) - corpus_value(metric, rows_a)
    return MetricValue(difference, low, high, len(rows_a), metric.signature_of(list(rows_a)))


def resampled_values(metric: Metric, rows: Rows, *, seed: int = 0, resamples: int = 1000) -> list[float]:
    """The metric of each resample; the same seed and number of examples draw the same examples.

    Raises:
        InstructLabError: there is no example.
        ValueError: what is summed differs in length.
    """
    return [metric.value(total) for total in _resampled_totals(_parts(metric, rows), seed, resamples)]


def corpus_value(metric: Metric, rows: Rows) -> float:
    """The metric of all examples together.

    Raises:
        InstructLabError: there is no example.
        ValueError: what is summed differs in length.
    """
    return _value(metric, _parts(metric, rows))


def example_scores(metric: Metric, rows: Rows) -> list[float]:
    """The score of each example, in order; for a corpus metric, each example's share of it."""
    return [metric.example_score(list(part)) for part in metric.parts(list(rows))]


def corpus_rows(metric: AnswerMetric[Row], answers: Sequence[str], references: Sequence[Sequence[str]]) -> list[Row]:
    """Each answer's statistics against its own references.

    Args:
        metric: what is measured.
        answers: one for each example.
        references: the acceptable answers of each example, as many groups as there are answers.

    Raises:
        InstructLabError: an example has no reference.
        ValueError: there are more answers than groups of references, or fewer.
        TypeError: an example's references are one text instead of a group of them.
    """
    if len(answers) != len(references):
        raise ValueError(f"every answer needs its references: {len(answers)} answers against {len(references)} groups")
    if any(isinstance(group, str) for group in references):
        raise TypeError("the references of an example are a group of texts, not one text")
    return [metric.statistics(answer, tuple(group)) for answer, group in zip(answers, references, strict=True)]


def _value(metric: Metric, rows: list[Statistics]) -> float:
    """The metric of the summed rows; the sums are exact, so the order of the examples does not matter."""
    return metric.value([math.fsum(column) for column in zip(*rows, strict=True)])


def _parts(metric: Metric, rows: Rows) -> list[Statistics]:
    """The statistics to sum.

    Raises:
        InstructLabError: there is no example.
        ValueError: they differ in length.
    """
    if not len(rows):
        raise InstructLabError("There is no example to measure", do="Choose a split that has examples")
    parts = metric.parts(list(rows))
    lengths = {len(part) for part in parts}
    if len(lengths) != 1:
        raise ValueError(f"every example has the same number of statistics, not {sorted(lengths)}")
    return parts


def _resampled_totals(rows: list[Statistics], seed: int, resamples: int) -> Iterator[list[float]]:
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
    cells = draws + examples * np.arange(resamples)[:, None]  # one range of numbers for each resample
    counts = np.bincount(cells.ravel(), minlength=resamples * examples)
    return counts.reshape(resamples, examples).astype(np.float64)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95% of the values; values that are not a number are left out."""
    import numpy as np

    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    # Percentiles that are values themselves: between finite and infinite ones nothing can be interpolated.
    method = "linear" if all(map(math.isfinite, known)) else "nearest"
    low, high = np.percentile(known, [TAIL_PERCENT, 100 - TAIL_PERCENT], method=method)  # type: ignore[call-overload]
    return float(low), float(high)
