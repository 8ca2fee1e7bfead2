"""Comparisons of runs, as Python objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from instruct_lab.comparison import Comparison
    from instruct_lab.records import RunRecord


@dataclasses.dataclass(frozen=True)
class ComparedRuns:
    """A comparison of runs; a notebook shows it as tables.

    Args:
        result: the compared runs and, for each metric, their values and differences.
        metric: the metric that the tables show; `None`: all metrics.
    """

    result: Comparison
    metric: str | None = None

    @property
    def best(self) -> dict[str, str]:
        """The id of the best run by each metric, keyed by metric.

        Runs that differ only in the seed are judged together, as one configuration. The id is that of the first run of
        the best configuration.
        """
        runs = {arm.id: self.result.runs[arm.runs[0]] for arm in self.result.arms}
        return {metric: runs[arm] for metric, arm in self.result.best.items()}

    def __str__(self) -> str:
        from instruct_lab.comparison.text import markdown

        return markdown(self.result, None if self.metric is None else [self.metric])

    def _repr_markdown_(self) -> str:
        return str(self)


def compare_records(records: Sequence[RunRecord], metric: str | None) -> ComparedRuns:
    """Compare runs on the examples that all of them answered; a run that is given twice counts once.

    Raises:
        InstructLabError: a run is given twice with different results: once with the results of its training and once
            with those of a later evaluation, or with the results of two evaluations.
    """
    from instruct_lab.comparison import compare
    from instruct_lab.records.evaluations import EvaluatedRecord

    unique: dict[Path, RunRecord] = {}
    for record in records:
        one, other = (
            f"its evaluation {given.name}" if isinstance(given, EvaluatedRecord) else "the results of its training"
            for given in (unique.get(record.path, record), record)
        )
        if one != other:
            raise InstructLabError(
                f"Run {record.id} is given with {one} and with {other}, and a comparison takes one of them",
                do="compare the same evaluation of several runs: call `evaluate` on each",
            )
        unique[record.path] = record
    return ComparedRuns(compare(list(unique.values()), metric), metric)
