"""Rules about win rates, which compare the answers of a run's model with the answers of another model."""

from __future__ import annotations

from collections.abc import Iterator

from instruct_lab.errors import InstructLabError, Problem, one_line
from instruct_lab.evaluation import Evaluation
from instruct_lab.files import user_path
from instruct_lab.metrics import Metric, WinRate
from instruct_lab.metrics.win_rate import BASE, REFERENCE
from instruct_lab.records.locate import find_run


def check_opponents(metrics: dict[str, Metric], evaluation: Evaluation, runs_path: str) -> Iterator[Problem]:
    """Report a win rate against an untuned model that the run does not evaluate, or against a run that is not found."""
    for name, metric in metrics.items():
        if not isinstance(metric, WinRate):
            continue
        if metric.against == BASE and not evaluation.before:
            reason = f"metrics.{name} compares with the answers of the untuned model, which has to be measured too"
            yield Problem(key="evaluation.before", value=False, reason=reason, suggestion="true")
        if metric.against not in (BASE, REFERENCE):
            try:
                find_run(user_path(runs_path), metric.against)
            except InstructLabError as error:
                reason = f"neither base nor reference nor a run: {one_line(error)}"
                yield Problem(key=f"metrics.{name}.against", value=metric.against, reason=reason)
