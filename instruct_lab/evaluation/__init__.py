"""A model measured on held-out examples: answers, likelihoods, baselines, results.

In: a model and examples. Out: a measurement, its table, `summary.json` and `predictions.jsonl`.
"""

from instruct_lab.evaluation.evaluation import Evaluation

__all__ = ["Evaluation"]
