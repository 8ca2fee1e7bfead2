"""How often 95% intervals hold the true value, by number of examples, with and without clusters of alike examples.

Usage: python tests/benchmarks/interval_coverage.py [TRIALS [METRIC...]]
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from support.populations import population

from instruct_lab.metrics import summarize

METRICS = {"accuracy": 0.5, "chrf": 0.97, "perplexity": 0.5}
"""Correlations of quality that give scores of a cluster a correlation of about 0.5."""
SIZE = 10
"""Number of examples of a cluster."""


def covered(drawn_from, num_clusters, trials, with_clusters, resamples=1000):
    """Return the percentage of trials in which the interval holds the true value."""
    generator, held = np.random.default_rng(1), 0
    for trial in range(trials):
        rows, clusters = drawn_from.draw(generator, num_clusters)
        names = clusters if with_clusters else ()
        found = summarize(drawn_from.metric, rows, clusters=names, seed=trial, resamples=resamples)
        held += found.low <= drawn_from.truth <= found.high
    return 100 * held / trials


def main():
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{trials} trials, standard error {100 * (0.05 * 0.95 / trials) ** 0.5:.1f} points")
    for name, correlation in METRICS.items():
        if name not in (sys.argv[2:] or METRICS):
            continue
        single = population(name, 20_000, 1, 0.0)
        for num_examples in (32, 96, 400):
            print(f"{name}, {num_examples} independent examples: {covered(single, num_examples, trials, False):.1f} %")
        clustered = population(name, 2_000, SIZE, correlation)
        print(f"{name}, clusters of {SIZE}: intra-cluster correlation {clustered.correlation():.2f}")
        for num_clusters in (10, 40, 100):
            plain, whole = (covered(clustered, num_clusters, trials, with_clusters) for with_clusters in (False, True))
            examples = f"{SIZE * num_clusters} examples in {num_clusters} clusters"
            print(f"{name}, {examples}: over examples {plain:.1f} %, over clusters {whole:.1f} %", flush=True)


if __name__ == "__main__":
    main()
