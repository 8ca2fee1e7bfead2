"""How often `compare` finds a planned difference with the number of examples that `compare --plan` gives.

Usage: python tests/benchmarks/planned_power.py [EXPERIMENTS]
"""

import sys

import numpy as np

from instruct_lab.comparison.power import POWER, examples_needed
from instruct_lab.comparison.scores import RunScores
from instruct_lab.comparison.variances import Variances
from instruct_lab.metrics import ExactMatch, RewardMargin

LEVEL, MAX_EXAMPLES = 0.05, 2000


def normal_runs(generator, num_examples, num_seeds, difference, scale=(1.0, 0.15, 0.8)):
    """Draw scores of two configurations with effects of examples, of seeds, and of both together."""
    of_examples, of_seeds, of_both = scale
    shared = generator.normal(size=num_examples)
    rows = []
    for effect in (0.0, difference):
        own = shared + of_examples * generator.normal(size=num_examples)
        for _ in range(num_seeds):
            scores = own + effect + of_seeds * generator.normal() + of_both * generator.normal(size=num_examples)
            rows.append([[float(score), 1.0] for score in scores])
    return RewardMargin(), rows


def binary_runs(generator, num_examples, num_seeds, difference):
    """Draw right and wrong answers of two configurations, whose rates differ by `difference` percent on average."""
    hardness = generator.normal(size=num_examples)
    rows = []
    for effect in (0.0, difference / 100):
        rates = 0.5 + 0.15 * np.tanh(hardness + generator.normal(size=num_examples)) + effect
        for _ in range(num_seeds):
            luck = 0.02 * generator.normal()
            hits = generator.random(num_examples) < rates + luck
            rows.append([[float(hit), 1.0, 0.0] for hit in hits])
    return ExactMatch(), rows


def found_share(draw, difference, num_examples, num_seeds, experiments, generator, resamples=1000):
    """Return the share of experiments in which the test finds the difference."""
    groups, found = [range(num_seeds), range(num_seeds, 2 * num_seeds)], 0
    for _ in range(experiments):
        metric, rows = draw(generator, num_examples, num_seeds, difference)
        scores = RunScores(metric, rows, groups, resamples)
        ((_, probability),) = scores.differences(groups, 0)
        found += probability < LEVEL
    return found / experiments


def components(draw, generator, num_examples=1000, num_seeds=200):
    """Return the components of the variance: those of the normal model, or estimates from a large record."""
    if draw is normal_runs:
        return Variances(examples=2.0, seeds=0.15**2, product=0.8**2)
    metric, rows = draw(generator, num_examples, num_seeds, 0.0)
    groups = [range(num_seeds), range(num_seeds, 2 * num_seeds)]
    return RunScores(metric, rows, groups, resamples=10).variances()


def main():
    experiments = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(f"planned power {POWER:.0%}, {experiments} experiments each")
    for draw, differences in ((normal_runs, (0.4, 0.6)), (binary_runs, (9.0, 14.0))):
        generator = np.random.default_rng(0)
        variances = components(draw, generator)
        for difference in differences:
            for num_seeds in (2, 3, 5):
                needed = examples_needed(difference, variances, num_seeds)
                if needed is None or needed > MAX_EXAMPLES:
                    print(f"{draw.__name__}, difference {difference:g}, {num_seeds} seeds: {needed} examples, not run")
                    continue
                share = found_share(draw, difference, needed, num_seeds, experiments, generator)
                print(
                    f"{draw.__name__}, difference {difference:g}, {num_seeds} seeds, {needed} examples: {share:.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
