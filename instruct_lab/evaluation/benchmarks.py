"""Measure a model on benchmarks, whose tasks have examples of their own; a task's results are stored like a split's."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.model import LoadedModel
from instruct_lab.records.measurement import Measurement


def measure_benchmarks(
    setup: EvaluationSetup, loaded: LoadedModel, known: Collection[str] = ()
) -> Iterator[tuple[str, Measurement]]:
    """Measure a model on the tasks of the benchmarks one after the other; yield the name and the results of each.

    In a multi-device run, every rank measures every example.

    Args:
        setup: the settings of the evaluation.
        loaded: the evaluated model.
        known: names of tasks to leave out, because they have been measured already.
    """
    for suite in setup.benchmarks.values():
        for name, scores in suite.measure(loaded, setup.template, known):
            yield (
                name,
                Measurement(
                    scores.predictions, scores.rows, scores.sources, scores.clusters, signatures=scores.signatures
                ),
            )
