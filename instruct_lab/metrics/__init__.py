"""Answers and references to values with confidence intervals.

In: predictions with their references, or summed log-likelihoods. Out: `MetricValue`s, scores of single examples and
paired differences. The values are those of the reference implementations (sacrebleu, rouge-score), on a scale of 0 to
100; perplexity on its own.
"""

from instruct_lab.metrics.base import AnswerMetric, LikelihoodMetric, Metric, MetricValue
from instruct_lab.metrics.exact_match import ExactMatch
from instruct_lab.metrics.intervals import example_scores, paired_difference, summarize
from instruct_lab.metrics.perplexity import Perplexity
from instruct_lab.metrics.rouge import ROUGE
from instruct_lab.metrics.sacrebleu_metrics import BLEU, TER, ChrF

__all__ = [
    "BLEU",
    "ROUGE",
    "TER",
    "AnswerMetric",
    "ChrF",
    "ExactMatch",
    "LikelihoodMetric",
    "Metric",
    "MetricValue",
    "Perplexity",
    "example_scores",
    "paired_difference",
    "summarize",
]
