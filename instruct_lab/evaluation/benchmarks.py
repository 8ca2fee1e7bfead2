"""Measure a model on benchmarks, which are tasks with their own examples.

The results of a task are stored under its name, like the results of a split such as `test`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.model import LoadedModel
from instruct_lab.records.measurement import Measurement


def measure_benchmarks(
    setup: EvaluationSetup, loaded: LoadedModel, known: Collection[str] = ()
) -> Iterator[tuple[str, Measurement]]:
    """Measure a model on one benchmark task after the other; yield each task's name and results.

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
