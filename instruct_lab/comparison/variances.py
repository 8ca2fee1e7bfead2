"""Estimate how much of a comparison's uncertainty comes from the examples, from the seeds, and from their interaction.

The contribution of an example to a run's value is modelled as the sum of an effect of the run, an effect of the example
and an interaction of the two (a two-way layout with random effects: Searle, Casella and McCulloch, 1992, chapter 4).
Contributions are computed by the jackknife, so the model holds for every metric that is a smooth function of sums over
examples, such as accuracy, chrF and perplexity.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class Variances:
    """The components of the variance of a difference between two configurations.

    A configuration is a set of runs that differ only in the seed. If each of the two has `S` runs, measured on `n`
    examples, the variance of the difference between their means is
    `examples / n + 2 * seeds / S + 2 * product / (S * n)`.

    Args:
        examples: variance, over examples, of the difference between two configurations, averaged over all pairs of
            configurations.
        seeds: variance between seeds of a configuration's value if there were unlimited examples; `None` if every
            configuration has only one run.
        product: variance of the interaction of a run and an example; `None` if every configuration has only one run.
            In this case, `examples` contains twice this variance.
        freedom: degrees of freedom with which `seeds` was estimated.
    """

    examples: float
    seeds: float | None
    product: float | None
    freedom: int = 0

    def times(self, factor: float) -> Variances:
        """Return a copy in which the components `examples` and `product` are multiplied by a factor."""
        product = None if self.product is None else factor * self.product
        return dataclasses.replace(self, examples=factor * self.examples, product=product)

    def of_difference(self, num_examples: float, num_seeds: int) -> float:
        """Return the variance of the difference between the means of two configurations.

        Args:
            num_examples: number of examples.
            num_seeds: number of runs of each configuration.
        """
        of_seeds = 2 * (self.seeds or 0.0) / num_seeds
        return self.of_examples(num_examples, num_seeds) + of_seeds

    def of_examples(self, num_examples: float, num_seeds: int) -> float:
        """Return the part of the variance of the difference that becomes smaller with more examples.

        Args:
            num_examples: number of examples.
            num_seeds: number of runs of each configuration.
        """
        return (self.examples + 2 * (self.product or 0.0) / num_seeds) / num_examples

    def between_runs(self, num_examples: float) -> float | None:
        """Return the variance of a metric between runs that differ only in the seed; `None` if it is unknown.

        It includes the interaction of runs and examples, which is smaller with more examples.

        Args:
            num_examples: number of examples on which each run is measured.
        """
        return None if self.seeds is None else self.seeds + (self.product or 0.0) / num_examples


def estimate_variances(influences: np.ndarray[Any, Any], arms: Sequence[Sequence[int]]) -> Variances | None:
    """Estimate the components of the variance from each example's contribution to each run's value.

    Args:
        influences: contributions, `[runs, examples]`; the mean of a row is the run's value.
        arms: for each configuration, the indices of its runs.

    Returns:
        The components; `None` if there are fewer than two configurations or fewer than two examples, or if a
        contribution is not finite.
    """
    import numpy as np

    num_examples = influences.shape[1]
    if len(arms) < 2 or num_examples < 2 or not np.isfinite(influences).all():
        return None
    values, centred = influences.mean(axis=1), influences - influences.mean(axis=1, keepdims=True)
    means = [centred[list(arm)].mean(axis=0) for arm in arms]  # [configurations][examples]
    freedom = sum(len(arm) - 1 for arm in arms)
    seeds = product = None
    if freedom:
        squares = sum(float(((centred[list(arm)] - mean) ** 2).sum()) for arm, mean in zip(arms, means, strict=True))
        product = squares / (freedom * (num_examples - 1))
        between = sum(float(((values[list(arm)] - values[list(arm)].mean()) ** 2).sum()) for arm in arms) / freedom
        seeds = max(0.0, between - product / num_examples)
    of_pairs = []
    for (a, first), (b, second) in itertools.combinations(zip(arms, means, strict=True), 2):
        spread = float(((first - second) ** 2).sum()) / (num_examples - 1)
        of_pairs.append(max(0.0, spread - (product or 0.0) * (1 / len(a) + 1 / len(b))))
    return Variances(math.fsum(of_pairs) / len(of_pairs), seeds, product, freedom)
