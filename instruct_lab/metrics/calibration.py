"""Metrics of the agreement between the model's probabilities and the target tokens."""

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
        """Return the number of target tokens that are the most probable token, and the number of all target tokens."""
        return [float(sum(scores.correct)), float(len(scores.correct))]

    def value(self, total: Statistics) -> float:
        """Compute the percentage of correct tokens; NaN if there is no token."""
        return 100 * total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """Describe how the percentage is computed."""
        return "token_accuracy|most likely tokens / target tokens|by:model tokens"


@component
class ExpectedCalibrationError(LikelihoodMetric):
    """Expected calibration error of the target tokens, 0 to 100; 0 is best. Source: Guo et al., 2017.

    The confidence of a token is the probability of the most likely token; its accuracy is 1 if that token is the
    target, else 0. The error is the sum of `tokens in bin / tokens * |mean confidence - mean accuracy|` over bins of
    equal width, each including its upper and excluding its lower bound. The bins hold all tokens of a split, so the
    value does not depend on batches. The value depends on the number of bins, however, and bins with few tokens bias it
    upwards.
    """

    higher_is_better: ClassVar[bool] = False
    bins: Annotated[int, Field(ge=1)] = 15  # number of bins of equal width

    def statistics(self, scores: TokenScores) -> Statistics:
        """Compute for each bin: the number of tokens, the sum of their confidences, and the number of correct tokens.

        Raises:
            ValueError: the lists differ in length, or a confidence is not a probability.
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
        """Compute the mean absolute difference between confidence and accuracy, 0 to 100; NaN if there is no token."""
        tokens = sum(total[::3])
        distances = (abs(sure - right) for sure, right in zip(total[1::3], total[2::3], strict=True))
        return 100 * math.fsum(distances) / tokens if tokens else math.nan

    def signature(self) -> str:
        """Describe the bins, in the form of sacrebleu's signatures."""
        return f"ece|bins:{self.bins}|width:equal|confidence:most likely token|by:model tokens"
