"""Evaluation of a model on held-out examples: answers, likelihoods, baselines, results.

From an `EvaluationSetup`, a loaded model and examples, this package makes a `Measurement`. From the measurements of a
run, it makes the printed table, the metrics in `summary.json` and the lines of `predictions.jsonl`.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.evaluation.evaluation import Evaluation
    from instruct_lab.evaluation.setup import EvaluationSetup

__all__ = ["Evaluation", "EvaluationSetup"]

__getattr__ = names_on_demand(__name__)
