"""Find the examples on which the predictions of two configurations differ most."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from instruct_lab.comparison.arms import Arm
from instruct_lab.comparison.scores import RunScores
from instruct_lab.records.occurrences import key_predictions
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import split_of


@dataclasses.dataclass(frozen=True)
class Disagreement:
    """One example to which two runs gave answers with different scores.

    Args:
        id: id of the example.
        split: split of the example.
        prompt: prompt of the example.
        references: the example's reference answers.
        runs: ids of the two runs.
        predictions: the answer of each run's tuned model.
        scores: the score of each answer, by the comparison's primary metric.
    """

    id: str
    split: str
    prompt: str
    references: list[str]
    runs: tuple[str, str]
    predictions: tuple[str, str]
    scores: tuple[float, float]


def disagreements(
    records: Sequence[RunRecord], arms: Sequence[Arm], name: str, scores: RunScores, count: int
) -> list[Disagreement]:
    """Find the examples whose scores differ most between the two best configurations, largest difference first.

    Each of the two configurations is represented by its first run.

    Args:
        records: records of all runs.
        arms: the configurations; a configuration is a set of runs that differ only in the seed.
        name: name of the metric, as `split/metric`.
        scores: the runs' scores by this metric.
        count: maximum number of examples.
    """
    if len(arms) < 2 or not count:
        return []

    def order(a: Arm, b: Arm) -> int:
        first, second = scores.mean(a.runs).value, scores.mean(b.runs).value
        return -1 if scores.better(first, second) else int(scores.better(second, first))

    first, second = (records[arm.runs[0]] for arm in sorted(arms, key=functools.cmp_to_key(order))[:2])
    split, metric = split_of(name), name.rpartition("/")[2]
    ones, others = (key_predictions(run.read_predictions()).get(split, {}) for run in (first, second))
    found = []
    for key, one in ones.items():
        other = others.get(key)
        if other is None:
            continue
        a, b = one.scores.get(metric), other.scores.get(metric)
        if a is None or b is None or not math.isfinite(a) or not math.isfinite(b) or a == b:
            continue
        found.append(
            Disagreement(
                id=one.id,
                split=split,
                prompt=one.prompt,
                references=list(one.references),
                runs=(first.id, second.id),
                predictions=(one.prediction, other.prediction),
                scores=(a, b),
            )
        )
    return sorted(found, key=lambda one: (-abs(one.scores[0] - one.scores[1]), one.id))[:count]
