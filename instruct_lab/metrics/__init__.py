"""Metrics of answers and of the model's probabilities, with confidence intervals.

Input, for each example: a generated answer with its references or with other columns of its data row; or the model's
probabilities of the target tokens; or a value that the objective computes. Output: `MetricValue`s, scores of single
examples, and paired differences between two models. Values equal those of the reference implementations (sacrebleu,
rouge-score, the SQuAD 2.0 script). They are on a scale of 0 to 100, except for perplexity, lengths and margins.
Benchmarks bring their own examples and keep the scale of their library.
"""

from typing import TYPE_CHECKING

from instruct_lab.late_imports import names_on_demand

if TYPE_CHECKING:
    from instruct_lab.metrics.base import (
        AnswerMetric,
        CorpusMetric,
        LikelihoodMetric,
        Metric,
        MetricValue,
        RowMetric,
        Statistics,
        ValueMetric,
    )
    from instruct_lab.metrics.benchmark import Benchmarks, BenchmarkScore
    from instruct_lab.metrics.calibration import ExpectedCalibrationError, TokenAccuracy
    from instruct_lab.metrics.code_generation import PassAtK
    from instruct_lab.metrics.diversity import AnswerLength, DistinctN, SelfBLEU
    from instruct_lab.metrics.exact_match import ExactMatch
    from instruct_lab.metrics.general import Forgetting
    from instruct_lab.metrics.instruction_following import InstructionFollowing
    from instruct_lab.metrics.intervals import corpus_rows, example_scores, paired_difference, summarize
    from instruct_lab.metrics.judges import Judge, JudgeModel, JudgeServer
    from instruct_lab.metrics.lm_eval import LmEval
    from instruct_lab.metrics.perplexity import Perplexity
    from instruct_lab.metrics.preference import PreferenceAccuracy, RewardMargin
    from instruct_lab.metrics.question_answering import SquadExactMatch, SquadF1
    from instruct_lab.metrics.rouge import ROUGE
    from instruct_lab.metrics.sacrebleu_metrics import BLEU, TER, ChrF
    from instruct_lab.metrics.win_rate import ComparisonMetric, LengthControlledWinRate, WinRate

__all__ = [
    "BLEU",
    "ROUGE",
    "TER",
    "AnswerLength",
    "AnswerMetric",
    "BenchmarkScore",
    "Benchmarks",
    "ChrF",
    "ComparisonMetric",
    "CorpusMetric",
    "DistinctN",
    "ExactMatch",
    "ExpectedCalibrationError",
    "Forgetting",
    "InstructionFollowing",
    "Judge",
    "JudgeModel",
    "JudgeServer",
    "LengthControlledWinRate",
    "LikelihoodMetric",
    "LmEval",
    "Metric",
    "MetricValue",
    "PassAtK",
    "Perplexity",
    "PreferenceAccuracy",
    "RewardMargin",
    "RowMetric",
    "SelfBLEU",
    "SquadExactMatch",
    "SquadF1",
    "Statistics",
    "TokenAccuracy",
    "ValueMetric",
    "WinRate",
    "corpus_rows",
    "example_scores",
    "paired_difference",
    "summarize",
]

__getattr__ = names_on_demand(__name__)
