"""The power of the test in `compare`: the probability that it finds a difference between two configurations.

The test compares the observed difference with random deviations (see `instruct_lab.comparison.scores`, whose deviations
are used here). Each deviation is the sum of two random numbers. One is normally distributed and stands for the choice
of examples. The other stands for the seeds, and has heavier tails than the normal distribution, because the variance
between seeds is itself estimated. The critical value of the test therefore depends on the observed standard deviation
between seeds, so the power is averaged over the distribution of this standard deviation.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from instruct_lab.comparison.scores import RESAMPLES, unit_noise
from instruct_lab.comparison.variances import Variances
from instruct_lab.metrics.resampling import FEW_UNITS

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.05
"""Significance level: a difference is significant if its p-value is below this number."""
POWER = 0.8
"""The probability with which a planned comparison should find a true difference of the planned size."""
REPEATS, POINTS = 8, 40
MAX_EXAMPLES = 10_000_000
NORMAL = NormalDist()


def power(difference: float, variances: Variances, num_examples: float, num_seeds: int) -> float:
    """Compute the probability that the test finds a difference between two configurations significant.

    Args:
        difference: the true difference.
        variances: components of the variance of an observed difference.
        num_examples: number of examples.
        num_seeds: number of runs of each configuration; if it is 1, the test ignores the variation between seeds.
    """
    error = math.sqrt(variances.of_difference(num_examples, num_seeds))
    of_examples = _widening(num_examples) * math.sqrt(variances.of_examples(num_examples, num_seeds))
    if error == 0:
        return 1.0
    between = variances.between_runs(num_examples)
    if num_seeds == 1 or between is None:
        return _beyond(difference, error, -NORMAL.inv_cdf(LEVEL / 2) * of_examples)
    freedom = 2 * (num_seeds - 1)
    found = 0.0
    for share in _chi_squared_shares(freedom):  # observed over true variance between the runs
        of_seeds = math.sqrt(share * between * 2 / num_seeds)
        found += _beyond(difference, error, _critical_value(of_examples, of_seeds, num_seeds))
    return found / POINTS


def examples_needed(difference: float, variances: Variances, num_seeds: int) -> int | None:
    """Return the smallest number of examples with which the test's power is at least 0.8 (`POWER`).

    Args:
        difference: the true difference between two configurations.
        variances: components of the variance of an observed difference.
        num_seeds: number of runs of each configuration.

    Returns:
        The number of examples; `None` if no number up to 10 million (`MAX_EXAMPLES`) is enough.
    """
    if power(difference, variances, MAX_EXAMPLES, num_seeds) < POWER:
        return None
    low, high = 1, MAX_EXAMPLES
    while low < high:
        middle = math.isqrt(low * high) if high > 4 * low else (low + high) // 2
        if power(difference, variances, middle, num_seeds) < POWER:
            low = middle + 1
        else:
            high = middle
    return low


def detectable(variances: Variances, num_examples: float, num_seeds: int) -> float:
    """Return the smallest difference between two configurations that the test finds with a probability of 0.8.

    Args:
        variances: components of the variance of an observed difference.
        num_examples: number of examples.
        num_seeds: number of runs of each configuration.
    """
    low, high = 0.0, math.sqrt(variances.of_difference(num_examples, num_seeds))
    while power(high, variances, num_examples, num_seeds) < POWER:
        low, high = high, 2 * high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, variances, num_examples, num_seeds) < POWER else (low, middle)
    return high


def _widening(num_examples: float) -> float:
    """Return the factor by which the test multiplies deviations due to the choice of examples.

    The factor is 1 if there are many examples. Otherwise, it is a quantile of Student's t distribution divided by the
    same quantile of the normal distribution. It is approximated by the first two terms of its expansion in powers of
    1 / (degrees of freedom).
    """
    if num_examples >= FEW_UNITS:
        return 1.0
    quantile = NORMAL.inv_cdf(1 - LEVEL / 2)
    return 1 + (quantile**2 + 1) / (4 * max(1.0, num_examples - 1))


def _beyond(difference: float, error: float, critical: float) -> float:
    """Return the probability that a normally distributed estimate is outside `[-critical, critical]`.

    Args:
        difference: mean of the estimate.
        error: standard deviation of the estimate.
        critical: critical value of the test.
    """
    return NORMAL.cdf((difference - critical) / error) + NORMAL.cdf((-difference - critical) / error)


def _critical_value(of_examples: float, of_seeds: float, num_seeds: int) -> float:
    import numpy as np

    size = math.hypot(of_examples, of_seeds)
    if not size:
        return 0.0
    angle = round(1000 * math.atan2(of_seeds, of_examples))
    angles = _critical_values(num_seeds)
    return size * float(np.interp(angle, range(0, 1600, 40), angles))


@functools.cache
def _critical_values(num_seeds: int) -> tuple[float, ...]:
    """Return the test's critical values for 40 weightings of its two random deviations (of examples and of seeds).

    The test uses the sum of a standardised deviation due to the choice of examples, multiplied by the cosine of an
    angle, and one due to the seeds, multiplied by the sine. The angles are 0, 0.04, 0.08, ..., 1.56 radians. The
    critical value for an angle is the 0.95 quantile of the sum's magnitude.
    """
    import numpy as np

    normal, student = _deviates(num_seeds)
    found = []
    for angle in range(0, 1600, 40):
        deviations = math.cos(angle / 1000) * normal + math.sin(angle / 1000) * student
        found.append(float(np.quantile(np.abs(deviations), 1 - LEVEL)))
    return tuple(found)


@functools.cache
def _deviates(num_seeds: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw standardised deviations of a difference between the means of two configurations.

    Args:
        num_seeds: number of runs of each configuration.

    Returns:
        Deviations due to the choice of examples, and deviations due to the seeds: two arrays of the same length.
    """
    import numpy as np

    noise = unit_noise(2 * (num_seeds - 1), 2 * num_seeds, RESAMPLES)
    of_seeds = (noise[num_seeds:].mean(axis=0) - noise[:num_seeds].mean(axis=0)) / math.sqrt(2 / num_seeds)
    normal = np.random.default_rng(0).standard_normal((REPEATS, RESAMPLES))
    return normal.ravel(), np.tile(of_seeds, REPEATS)


@functools.cache
def _chi_squared_shares(freedom: int) -> tuple[float, ...]:
    """Return 40 quantiles, at equally spaced probabilities, of a chi-squared variable divided by `freedom`.

    Args:
        freedom: degrees of freedom of the chi-squared variable.
    """
    import numpy as np

    drawn = np.random.default_rng(1).chisquare(freedom, 800_000) / freedom
    return tuple(np.quantile(drawn, (np.arange(POINTS) + 0.5) / POINTS).tolist())
