"""Populations of examples with known values, from which evaluations are drawn to see how often intervals hold."""

import dataclasses
import math
from statistics import NormalDist

import numpy as np

from instruct_lab.metrics import ChrF, ExactMatch, Metric, Perplexity

WORDS = [a + b + c for a in ("ka", "ri", "to", "lem") for b in ("sa", "nu", "pol") for c in ("", "ti", "rand", "xe")]


@dataclasses.dataclass(frozen=True)
class Population:
    """Clusters of equally many examples.

    Args:
        metric: the metric.
        rows: statistics, `[clusters, examples of a cluster, statistics]`.
        truth: value of the whole population.
    """

    metric: Metric
    rows: np.ndarray
    truth: float

    def draw(self, generator, num_clusters):
        """Draw clusters with replacement; return their rows and the name of each row's cluster."""
        chosen = self.rows[generator.integers(len(self.rows), size=num_clusters)]
        names = [str(index) for index in range(num_clusters) for _ in range(chosen.shape[1])]
        return chosen.reshape(-1, chosen.shape[2]).tolist(), names

    def correlation(self):
        """Return the intra-cluster correlation of the examples' scores; of perplexity, that of the losses."""
        scores = np.array([[self.metric.example_score(row) for row in cluster] for cluster in self.rows[:500].tolist()])
        scores = np.log(scores) if isinstance(self.metric, Perplexity) else scores
        size = scores.shape[1]
        between = size * scores.mean(axis=1).var(ddof=1)
        within = scores.var(axis=1, ddof=1).mean()
        return (between - within) / (between + (size - 1) * within)


def population(name, num_clusters, size, correlation, seed=0):
    """Build a population: `accuracy`, `chrf` or `perplexity`.

    Args:
        name: the metric.
        num_clusters: number of clusters.
        size: number of examples of each cluster.
        correlation: correlation of the quality of two examples of a cluster, before it is mapped to scores.
        seed: random seed.
    """
    generator = np.random.default_rng(seed)
    shared = generator.standard_normal((num_clusters, 1))
    own = generator.standard_normal((num_clusters, size))
    quality = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
    if name == "accuracy":
        # Both an example's difficulty and luck decide: the correlation of right and wrong is that of the quality.
        rates = generator.beta(0.5, 0.5, (num_clusters, 1)) if correlation else np.full((num_clusters, 1), 0.4)
        right = (generator.random((num_clusters, size)) < rates).astype(float)
        metric, rows = ExactMatch(), np.stack([right, np.ones_like(right), np.zeros_like(right)], axis=2)
    elif name == "perplexity":
        tokens = np.maximum(1, generator.lognormal(2.5, 0.5, (num_clusters, size)).round())
        metric, rows = Perplexity(), np.stack([np.exp(0.5 * quality) * tokens, tokens], axis=2)
    else:
        metric = ChrF()
        flat = [_chrf_row(metric, NormalDist().cdf(one), generator) for one in quality.ravel()]
        rows = np.array(flat).reshape(num_clusters, size, -1)
    return Population(metric, rows, metric.value(rows.sum(axis=(0, 1)).tolist()))


def _chrf_row(metric, share, generator):
    """Return the statistics of an answer that has each word of its reference with a probability."""
    words = [WORDS[index] for index in generator.integers(len(WORDS), size=1 + int(generator.lognormal(1.2, 0.7)))]
    answer = [word if generator.random() < share else WORDS[generator.integers(len(WORDS))] for word in words]
    return metric.statistics(" ".join(answer), (" ".join(words),))
