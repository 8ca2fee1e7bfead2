"""How much of a metric's variance comes from sampling the answers, and how much from the choice of examples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from instruct_lab.metrics.base import Metric, Statistics


@dataclasses.dataclass(frozen=True)
class SamplingVariance:
    """The variance of a metric's value that is measured on one sampled answer to each prompt, split into two parts.

    Args:
        sampling: the part that comes from sampling: the variance between new samples of answers to the same prompts.
        examples: the part that comes from the choice of prompts: the variance between new sets of prompts, if each
            prompt had unlimited answers.
    """

    sampling: float
    examples: float

    @property
    def share(self) -> float:
        """The fraction of the variance that comes from sampling, 0 to 1; 0 if there is no variance."""
        total = self.sampling + self.examples
        return self.sampling / total if total else 0.0


def sampling_variance(metric: Metric, answers: Sequence[Sequence[Statistics]]) -> SamplingVariance | None:
    """Split the variance of a metric's value into the part from sampling answers and the part from choosing examples.

    This is an analysis of variance. It compares how much the value changes with the answer that is taken for an
    example, and with the examples that are included.

    Args:
        metric: a metric whose value is a function of statistics that are summed over examples.
        answers: for each example, the list of its answers, each given by its statistics; every example has the same
            number of answers.

    Returns:
        The two parts; `None` with fewer than two examples, with fewer than two answers to each prompt, or if the value
        is not finite.
    """
    num_examples = len(answers)
    if num_examples < 2 or min(map(len, answers)) < 2:
        return None
    num_answers = len(answers[0])
    means = [_mean(rows) for rows in answers]
    total = [math.fsum(column) for column in zip(*means, strict=True)]
    value = metric.value(total)
    within, between = 0.0, []
    for rows, mean in zip(answers, means, strict=True):
        rest = [whole - part for whole, part in zip(total, mean, strict=True)]
        changed = [metric.value([a + b for a, b in zip(rest, row, strict=True)]) for row in rows]
        centre = math.fsum(changed) / num_answers
        within += math.fsum((one - centre) ** 2 for one in changed) / (num_answers - 1)
        between.append(value - metric.value(rest))
    if not math.isfinite(within) or not all(map(math.isfinite, between)):
        return None
    centre = math.fsum(between) / num_examples
    of_means = math.fsum((one - centre) ** 2 for one in between) * (num_examples - 1) / num_examples  # the jackknife
    return SamplingVariance(within, max(0.0, of_means - within / num_answers))


def _mean(rows: Sequence[Statistics]) -> list[float]:
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]
