"""Bootstrap resampling of units, which are single examples or whole clusters of related examples.

Data rows of one document, source file or question template resemble each other, so that they hold less evidence than
the same number of independent rows (Miller, "Adding error bars to evals", 2024). If rows name their cluster, whole
clusters are therefore the units, instead of single rows. A row without a cluster is a unit of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.metrics.base import Metric, Statistics

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DRAWS_AT_ONCE = 1 << 22
MIN_CLUSTERS = 10
"""With fewer effective clusters, single examples are resampled; clusters of unequal sizes count as fewer clusters."""
FEW_UNITS = 96
"""With fewer units, percentile intervals contain the true value too rarely, so `widening` widens them."""
WIDENING_SEED = 2
MIN_FREEDOM = 2.0
"""Lower limit of the degrees of freedom in `widening`, which a high kurtosis would otherwise make smaller."""
CHANGED_WIDTH = 0.1
"""Intervals over clusters and over examples are both reported if their widths differ by more than this fraction.

It is a fraction of the width of the interval over examples.
"""


@dataclasses.dataclass(frozen=True)
class Units:
    """The units that are resampled with replacement: single examples, or clusters of examples.

    Args:
        of_example: index of each example's unit; `None` if every example is a unit.
        count: number of units.
        num_clusters: number of clusters in the data, even if they are too few to be resampled. An example without a
            cluster counts as a cluster of its own. 0 if every cluster has a single example.
    """

    of_example: tuple[int, ...] | None
    count: int
    num_clusters: int = 0

    @property
    def resamples_clusters(self) -> bool:
        """Whether whole clusters are drawn instead of examples."""
        return self.of_example is not None

    def notes(self) -> Iterator[str]:
        """Yield a note if the clusters of the examples are too few or too unequal to be resampled."""
        if self.num_clusters and not self.resamples_clusters:
            yield (
                f"the examples come from {self.num_clusters} clusters (data.cluster), too few or too unequal to "
                "resample: the interval holds for these clusters"
            )

    def sums(self, rows: Sequence[Sequence[float]]) -> Array:
        """Sum the statistics of the examples within each unit.

        Args:
            rows: the statistics of each example, `[examples, statistics]`.

        Returns:
            The sums, `[units, statistics]`.
        """
        import numpy as np

        matrix = np.asarray(rows, dtype=np.float64)
        if self.of_example is None:
            return matrix
        summed = np.zeros((self.count, matrix.shape[1]))
        np.add.at(summed, list(self.of_example), matrix)
        return summed


def units_of(clusters: Sequence[str], num_examples: int) -> Units:
    """Return the units of examples: their clusters if there are enough of them, otherwise the single examples.

    There must be at least 10 (`MIN_CLUSTERS`) effective clusters. The effective number of clusters is the square of the
    number of examples, divided by the sum of the squared cluster sizes: with unequal sizes, it is lower than the number
    of clusters.

    Args:
        clusters: name of each example's cluster, or an empty name if it has none; an empty list if no example has one.
        num_examples: number of examples.
    """
    names = [name or f"\0{index}" for index, name in enumerate(clusters)]  # no cluster is a cluster of its own
    sizes = Counter(names)
    if len(names) != num_examples or len(sizes) == num_examples:
        return Units(None, num_examples)
    if num_examples**2 / sum(size**2 for size in sizes.values()) < MIN_CLUSTERS:
        return Units(None, num_examples, len(sizes))
    indices = {name: index for index, name in enumerate(sizes)}
    return Units(tuple(indices[name] for name in names), len(sizes), len(sizes))


def draw_weights(num_units: int, seed: int, resamples: int) -> Iterator[Array]:
    """Draw all resamples, and yield arrays that say how often each resample contains each unit.

    To save memory, the resamples come in groups: an array has the shape `[resamples in the group, units]`. The draws
    depend only on the seed and the number of units.

    Args:
        num_units: number of units.
        seed: random seed.
        resamples: total number of resamples.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    at_once = max(1, DRAWS_AT_ONCE // num_units)
    for start in range(0, resamples, at_once):
        part = min(at_once, resamples - start)
        draws = generator.integers(num_units, size=(part, num_units))
        cells = draws + num_units * np.arange(part)[:, None]  # a separate range of numbers for each resample
        counts = np.bincount(cells.ravel(), minlength=part * num_units)
        yield counts.reshape(part, num_units).astype(np.float64)


def influences(metric: Metric, sums: Array) -> Array | None:
    """Compute by the jackknife (leaving out one unit at a time) how much each unit contributes to the metric's value.

    Args:
        metric: the metric.
        sums: statistics of each unit, `[units, statistics]`.

    Returns:
        The contributions, `[units]`, which sum to 0. `None` if there are fewer than two units, or if leaving out a unit
        gives a value that is not finite.
    """
    import numpy as np

    if len(sums) < 2:
        return None
    total = [math.fsum(column) for column in sums.T.tolist()]
    rests = (np.asarray(total) - sums).tolist()
    try:
        without = np.asarray([metric.value(rest) for rest in rests])
    except ZeroDivisionError:
        return None
    if not np.isfinite(without).all():
        return None
    found: Array = (len(sums) - 1) * (without.mean() - without)
    return found


def limits(metric: Metric, sums: Array) -> tuple[float, float]:
    """Compute the metric's value for each unit by itself, and return the lowest and the highest value.

    The value of several units together lies between these limits. A widened interval is therefore cut at them, so that
    it never extends below a perplexity of 1 or above a score of 100.

    Args:
        metric: the metric.
        sums: statistics of each unit, `[units, statistics]`.

    Returns:
        The lower and the upper limit; minus and plus infinity if the value of a unit is not defined.
    """
    try:
        values = [metric.value(unit) for unit in sums.tolist()]
    except ZeroDivisionError:
        return -math.inf, math.inf
    return (-math.inf, math.inf) if any(map(math.isnan, values)) else (min(values), max(values))


def widening(contributions: Array, resamples: int) -> Array:
    """Draw a factor for each resample, which widens an interval that is computed from few units.

    The value of a resample differs from the value of all units; the caller multiplies this difference by the factor.
    Without the factors, the interval is too narrow, because resamples of few units vary too little. As in Student's t
    distribution, a factor is the square root of `f / chi^2`, times the square root of `n / (n - 1)`. Here, `n` is the
    number of units, and `chi^2` is drawn from the chi-squared distribution with `f` degrees of freedom. `f` is the
    smaller of `n - 1` and `2 n / (kurtosis - 1)`, but at least 2 in the second case: if a few units contribute most of
    the variance, its estimate is less certain. The percentiles of the multiplied differences give an interval that is
    as wide as one from Student's t and keeps the skewness of the resamples (compare the expanded percentile interval
    of Hesterberg, 2015).

    Args:
        contributions: how much each unit contributes to the metric's value, `[units]`, as computed by `influences`.
        resamples: number of resamples.

    Returns:
        The factors, `[resamples]`.
    """
    import numpy as np

    count = len(contributions)
    freedom, squares = float(count - 1), (contributions - contributions.mean()) ** 2
    if squares.max() > 0:
        kurtosis = float((squares**2).mean() / squares.mean() ** 2)
        freedom = min(freedom, max(MIN_FREEDOM, 2 * count / max(kurtosis - 1, 1e-9)))
    drawn = np.random.default_rng(WIDENING_SEED).chisquare(freedom, resamples)
    factors: Array = np.sqrt(freedom / drawn * count / (count - 1))
    return factors


def totals(sums: Array, seed: int, resamples: int) -> Iterator[Statistics]:
    """Yield the summed statistics of each resample, given the statistics of each unit, `[units, statistics]`."""
    for weights in draw_weights(len(sums), seed, resamples):
        yield from (weights @ sums).tolist()
