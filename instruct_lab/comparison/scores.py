"""Compute means and differences of several runs' scores on the same examples, with intervals and p-values.

A run's value is uncertain for two reasons: the choice of examples, and randomness in training (the seed). The first is
estimated by resampling the examples, with the same resamples for all runs (paired bootstrap). The second is estimated
from runs that differ only in the seed, which form a configuration (arm). Their standard deviation s, pooled over all
configurations with several runs, is itself uncertain if there are few runs. Therefore, as in a t test with f degrees of
freedom, each resample draws sigma^2 = s^2 * f / chi^2_f, and adds to each run's value a normally distributed random
number with standard deviation sigma. If every configuration has only one run, the intervals include only the
uncertainty from the choice of examples.

If the examples belong to clusters, whole clusters are resampled. If there are few examples or clusters, the bootstrap
underestimates the uncertainty, so the deviations of the resampled values from the observed value are multiplied by
random factors that widen the interval (see `instruct_lab.metrics.resampling`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.comparison.variances import Variances, estimate_variances
from instruct_lab.metrics import Metric
from instruct_lab.metrics.intervals import Rows, corpus_parts, corpus_value, interval
from instruct_lab.metrics.resampling import FEW_UNITS, influences, limits, totals, units_of, widening

if TYPE_CHECKING:
    import numpy as np

    Resampled = np.ndarray[Any, Any]

RESAMPLES = 1000
NOISE_SEED = 1


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Noise:
    """The variation of a metric between runs that differ only in the seed.

    Args:
        deviation: standard deviation of the metric between such runs, pooled over all configurations.
        freedom: degrees of freedom of `deviation`: for each configuration, its number of runs minus 1, summed over all
            configurations.
    """

    deviation: float
    freedom: int


class RunScores:
    """The scores of several runs, computed by one metric on the same examples.

    Args:
        metric: the metric.
        rows: for each run and example, the statistics from which the metric computes its value,
            `[runs][examples][statistics]`.
        arms: for each configuration, the indices of its runs; runs of a configuration differ only in the seed.
        resamples: how many times the examples are resampled.
        clusters: name of each example's cluster, an empty text for an example without a cluster; an empty list if no
            example has one.
    """

    def __init__(
        self,
        metric: Metric,
        rows: Sequence[Rows],
        arms: Sequence[Sequence[int]],
        resamples: int = RESAMPLES,
        clusters: Sequence[str] = (),
    ) -> None:
        import numpy as np

        self.metric, self.count = metric, len(rows[0])
        self.values = [corpus_value(metric, one) for one in rows]
        self.noise = noise_of(self.values, arms)
        self.units = units_of(clusters, self.count)
        self._rows, self._arms, self._resamples = rows, arms, resamples
        sums = [self.units.sums(corpus_parts(metric, one)) for one in rows]
        drawn = np.array([[metric.value(total) for total in totals(one, 0, resamples)] for one in sums])
        self._noise = self._training_noise(*drawn.shape)
        self._resampled = drawn + self._noise  # [runs, resamples]
        is_small = self.units.count < FEW_UNITS
        self._influences = self._influences_of(sums) if is_small else None
        self._limits = [limits(metric, one) for one in sums] if is_small else []

    def over_examples(self) -> RunScores | None:
        """Return a copy whose intervals resample single examples instead of clusters of examples.

        Returns:
            The copy; `None` if the intervals resample single examples already, as there are no clusters or too few.
        """
        return (
            RunScores(self.metric, self._rows, self._arms, self._resamples) if self.units.resamples_clusters else None
        )

    def variances(self) -> Variances | None:
        """Estimate how much examples and seeds contribute to the variance of a difference between configurations.

        Returns:
            The components of the variance; `None` if there are fewer than two configurations, if there are fewer than
            two units (clusters if these are resampled, otherwise examples), or if a score is not finite.
        """
        import numpy as np

        sums = [self.units.sums(corpus_parts(self.metric, one)) for one in self._rows]
        found = self._influences_of(sums)
        if found is None:
            return None
        estimated = estimate_variances(found + np.array(self.values)[:, None], self._arms)
        size = self.count / self.units.count  # examples of a unit
        return None if estimated is None else estimated.times(size)

    def mean(self, runs: Sequence[int]) -> Estimate:
        """Return the mean of the metric's values in the given runs, with its interval."""
        return Estimate(_mean([self.values[run] for run in runs]), *interval(self._drawn(runs).tolist()))

    def differences(self, groups: Sequence[Sequence[int]], base: int) -> list[tuple[Estimate, float]]:
        """Subtract the mean of group `base` from the mean of each other group of runs, in the order of the groups.

        Each difference has a two-sided p-value that is corrected for the number of pairs of groups, since the base may
        have been chosen because it is the best group. The correction is max-T (Westfall and Young, 1993; Romano and
        Wolf, 2005). For each pair of groups, its difference in a resample deviates from its observed difference. The
        p-value is the proportion of resamples in which the largest of these deviations, in standard errors, is at least
        as large as the tested difference. Both counts in this proportion are increased by 1, so that no p-value is 0.

        Args:
            groups: for each group, the indices of its runs.
            base: index of the group whose mean is subtracted.

        Returns:
            For each group other than `base`, the difference with its interval, and its p-value.
        """
        values = [_mean([self.values[run] for run in runs]) for runs in groups]
        largest, pairs = self._largest_deviations(groups, values), len(groups) * (len(groups) - 1) // 2
        found = []
        for index in range(len(groups)):
            if index == base:
                continue
            resampled = self._drawn(groups[index], groups[base])
            difference = values[index] - values[base]
            estimate = Estimate(difference, *interval(resampled.tolist()))
            found.append((estimate, _probability(difference, resampled, largest, pairs)))
        return found

    def better(self, a: float, b: float) -> bool:
        """Whether the value `a` is better than the value `b`; any number is better than NaN."""
        if math.isnan(a) or math.isnan(b):
            return math.isnan(b) and not math.isnan(a)
        return a < b if self.metric.higher_is_better is False else a > b

    def best(self, groups: Sequence[Sequence[int]]) -> int:
        """Return the index of the group of runs with the best mean; if means are equal, the first index."""
        means = [_mean([self.values[run] for run in group]) for group in groups]
        best = 0
        for index, mean in enumerate(means):
            if self.better(mean, means[best]):
                best = index
        return best

    def _drawn(self, runs: Sequence[int], base: Sequence[int] = ()) -> Resampled:
        """Return, for each resample, the mean of the metric's values in the given runs, `[resamples]`.

        If `base` lists runs, the mean of their values in the same resample is subtracted.
        """
        import numpy as np

        drawn = _difference(self._resampled, runs, base)
        if self._influences is None:
            return drawn
        value = _mean([self.values[run] for run in runs]) - (_mean([self.values[run] for run in base]) if base else 0.0)
        noise = _difference(self._noise, runs, base)
        factors = widening(_difference(self._influences, runs, base), self._resamples)
        low, high = (_mean([self._limits[run][end] for run in runs]) for end in (0, 1))
        if base:
            low -= _mean([self._limits[run][1] for run in base])
            high -= _mean([self._limits[run][0] for run in base])
        widened: Resampled = np.clip(value + factors * (drawn - noise - value), low, high) + noise
        return widened

    def _influences_of(self, sums: Sequence[Resampled]) -> Resampled | None:
        """Return how much each unit contributes to each run's value: an array `[runs, units]`.

        A unit is what a resample draws: a cluster of examples, or a single example if there are no clusters or too few.
        The method returns `None` if there are fewer than two units, or if a run's value, with all units or without one,
        is not finite.

        Args:
            sums: for each run, the sum of the metric's statistics over each unit.
        """
        import numpy as np

        found = [influences(self.metric, of_run) for of_run in sums]
        known = [one for one in found if one is not None]
        return np.stack(known) if len(known) == len(found) and all(map(math.isfinite, self.values)) else None

    def _largest_deviations(self, groups: Sequence[Sequence[int]], values: Sequence[float]) -> Resampled:
        """Compute, for each resample, the largest deviation of a difference between two groups, `[resamples]`.

        For each pair of groups, the deviation is the distance between the pair's difference in the resample and its
        observed difference, in standard errors. The largest is taken over all pairs.

        Args:
            groups: for each group, the indices of its runs.
            values: the observed mean of each group.
        """
        import numpy as np

        largest = np.zeros(self._resamples)
        for (one, value), (other, found) in itertools.combinations(zip(groups, values, strict=True), 2):
            difference = self._drawn(other, one)
            error = difference.std()
            if np.isfinite(error) and error > 0:
                largest = np.maximum(largest, np.abs(difference - (found - value)) / error)
        return largest

    def _training_noise(self, runs: int, resamples: int) -> Resampled:
        import numpy as np

        if self.noise is None:
            return np.zeros((runs, resamples))
        return self.noise.deviation * unit_noise(self.noise.freedom, runs, resamples)


def unit_noise(freedom: int, runs: int, resamples: int) -> Resampled:
    """Draw random deviations, one for each run and resample, which simulate the effect of the seed on a run's value.

    The fewer the degrees of freedom, the less certain the estimated standard deviation, and the larger the deviations.

    Args:
        freedom: degrees of freedom of the estimated standard deviation between seeds.
        runs: number of runs.
        resamples: number of resamples.

    Returns:
        The deviations `[runs, resamples]`, in units of the estimated standard deviation.
    """
    import numpy as np

    generator = np.random.default_rng(NOISE_SEED)
    deviations: Resampled = np.sqrt(freedom / generator.chisquare(freedom, resamples))
    return deviations * generator.standard_normal((runs, resamples))


def noise_of(values: Sequence[float], arms: Sequence[Sequence[int]]) -> Noise | None:
    """Estimate the standard deviation between seeds, pooled over the configurations that have several runs.

    Args:
        values: the metric's value in each run.
        arms: for each configuration, the indices of its runs.

    Returns:
        The standard deviation with its degrees of freedom; `None` if no configuration has several runs, or if a value
        of a configuration with several runs is not finite.
    """
    several = [[values[run] for run in arm] for arm in arms if len(arm) > 1]
    if not several or not all(math.isfinite(value) for arm in several for value in arm):
        return None
    freedom = sum(len(arm) - 1 for arm in several)
    squares = math.fsum((value - _mean(arm)) ** 2 for arm in several for value in arm)
    return Noise(math.sqrt(squares / freedom), freedom)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _difference(of_runs: Resampled, runs: Sequence[int], base: Sequence[int]) -> Resampled:
    """Average some rows of an array that has a row for each run, and subtract the average of the rows of `base`.

    Args:
        of_runs: the array `[runs, columns]`; a column stands for a resample, or for an example or cluster.
        runs: indices of the rows to average.
        base: indices of the rows whose average is subtracted; empty: subtract nothing.
    """
    mean: Resampled = of_runs[list(runs)].mean(axis=0)
    return mean - of_runs[list(base)].mean(axis=0) if base else mean


def _probability(difference: float, resampled: Resampled, largest: Resampled, pairs: int) -> float:
    """Compute the two-sided p-value of a difference between two groups of runs, corrected for the number of pairs.

    The p-value is the proportion of values in `largest` that are at least as large as the difference in standard
    errors. If the standard error is zero or not finite, the p-value is computed from the signs of the resampled
    differences instead, with Bonferroni's correction.

    Args:
        difference: the observed difference.
        resampled: the difference in each resample, `[resamples]`.
        largest: for each resample, the largest deviation of any pair's difference from its observed difference, in
            standard errors, `[resamples]`.
        pairs: number of pairs of groups.
    """
    import numpy as np

    error = resampled.std()
    if np.isfinite(error) and error > 0:
        beyond = int((largest >= abs(difference) / error).sum())
        return (beyond + 1) / (len(largest) + 1)
    known = resampled[~np.isnan(resampled)]
    least = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, pairs * 2 * (least + 1) / (len(known) + 1))
