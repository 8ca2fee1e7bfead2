"""Metrics that compare the model's probabilities with the target tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.metrics.base import LikelihoodMetric, Statistics

if TYPE_CHECKING:
    from instruct_lab.objective import TokenScores


@component
class TokenAccuracy(LikelihoodMetric):
    """Token accuracy: the percentage of target tokens to which the model gives the highest probability.

    The tokens are those of the model's tokenizer, so models with different tokenizers cannot be compared.
    """

    def statistics(self, scores: TokenScores) -> Statistics:
        """Return two counts: target tokens to which the model gives the highest probability, and all target tokens."""
        return [float(sum(scores.correct)), float(len(scores.correct))]

    def value(self, total: Statistics) -> float:
        """Compute the percentage from the summed counts; NaN if there is no target token."""
        return 100 * total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """Describe how the percentage is computed."""
        return "token_accuracy|most likely tokens / target tokens|by:model tokens"


@component
class ExpectedCalibrationError(LikelihoodMetric):
    """Expected calibration error of the target tokens, 0 to 100; 0 is best. Source: Guo et al., 2017.

    At each target token, the confidence is the probability of the most likely token, and the accuracy is 1 if that
    token is the target, else 0. Confidences are divided into bins of equal width; each bin includes its upper bound and
    excludes its lower bound. The error is the sum of `tokens in bin / tokens * |mean confidence - mean accuracy|` over
    the bins. The bins contain all target tokens of a split, so the value does not depend on batches. However, it
    depends on the number of bins, and bins with few tokens bias it upwards.
    """

    higher_is_better: ClassVar[bool] = False
    bins: Annotated[int, Field(ge=1)] = 15  # number of bins of equal width

    def statistics(self, scores: TokenScores) -> Statistics:
        """Compute for each bin: the number of tokens, the sum of their confidences, and the sum of their accuracies.

        Raises:
            ValueError: `scores` has different numbers of confidences and of tokens, or a confidence is not a
                probability.
        """
        rows = [[0.0, 0.0, 0.0] for _ in range(self.bins)]
        for confidence, correct in zip(scores.confidences, scores.correct, strict=True):
            if not 0 <= confidence <= 1 + 1e-6:
                raise ValueError(f"a confidence is a probability between 0 and 1, not {confidence}")
            row = rows[min(max(math.ceil(confidence * self.bins) - 1, 0), self.bins - 1)]
            row[0] += 1
            row[1] += confidence
            row[2] += correct
        return [statistic for row in rows for statistic in row]

    def value(self, total: Statistics) -> float:
        """Compute the error from the sums of all bins, 0 to 100; NaN if there is no token."""
        tokens = sum(total[::3])
        distances = (abs(sure - right) for sure, right in zip(total[1::3], total[2::3], strict=True))
        return 100 * math.fsum(distances) / tokens if tokens else math.nan

    def signature(self) -> str:
        """Describe the bins, in the form of sacrebleu's signatures."""
        return f"ece|bins:{self.bins}|width:equal|confidence:most likely token|by:model tokens"
