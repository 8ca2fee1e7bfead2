"""How well the model's probabilities of the answer tokens agree with the answers."""

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
    """Token accuracy: how many of 100 target tokens are the model's most likely one, given all tokens before.

    By the model's own tokens, so models with other tokenizers cannot be compared by it.
    """

    def statistics(self, scores: TokenScores) -> Statistics:
        """Target tokens that are the most likely one, and all of them."""
        return [float(sum(scores.correct)), float(len(scores.correct))]

    def value(self, total: Statistics) -> float:
        """The share, 0 to 100; not a number if there is no token."""
        return 100 * total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """What is divided by what."""
        return "token_accuracy|most likely tokens / target tokens|by:model tokens"


@component
class ExpectedCalibrationError(LikelihoodMetric):
    """Expected calibration error of the target tokens, 0 to 100; 0 is best. Source: Guo et al., 2017.

    The probability of the most likely token is the confidence, and whether that token is the target is the accuracy.
    Over bins of equal width, each open below and closed above: the sum of `tokens in bin / tokens * |mean confidence -
    mean accuracy|`. All tokens of a split fall into the same bins, so the value does not depend on batches; it does
    on the number of bins, and it is biased upwards for bins with few tokens.
    """

    higher_is_better: ClassVar[bool] = False
    bins: Annotated[int, Field(ge=1)] = 15  # bins of equal width

    def statistics(self, scores: TokenScores) -> Statistics:
        """For each bin: tokens, the sum of their confidences, and those whose most likely token is the target.

        Raises:
            ValueError: the lists differ in length, or a confidence is no probability.
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
        """The mean distance, 0 to 100; not a number if there is no token."""
        tokens = sum(total[::3])
        distances = (abs(sure - right) for sure, right in zip(total[1::3], total[2::3], strict=True))
        return 100 * math.fsum(distances) / tokens if tokens else math.nan

    def signature(self) -> str:
        """The bins, in the form of sacrebleu's signatures."""
        return f"ece|bins:{self.bins}|width:equal|confidence:most likely token|by:model tokens"
