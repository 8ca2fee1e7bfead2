"""Evaluation of a model on held-out examples: answers, likelihoods, baselines, results.

In: an `EvaluationSetup`, a loaded model and examples. Out: a measurement; all measurements of a run become its table,
the metrics of `summary.json` and the lines of `predictions.jsonl`.
"""

from instruct_lab.evaluation.evaluation import Evaluation
from instruct_lab.evaluation.setup import EvaluationSetup

__all__ = ["Evaluation", "EvaluationSetup"]
