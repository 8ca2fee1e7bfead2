"""Perplexity over all target tokens of a split."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from instruct_lab.config import component
from instruct_lab.metrics.base import LikelihoodMetric, Statistics

if TYPE_CHECKING:
    from instruct_lab.objective import TokenScores


@component
class Perplexity(LikelihoodMetric):
    """Perplexity: the exponential of the mean loss (in nats) of the target tokens; 1 is best.

    The mean is taken over all target tokens of the split at once, in double precision, so it does not depend on the
    batch size. The tokens are those of the model's tokenizer, so models with different tokenizers cannot be compared.
    """

    higher_is_better: ClassVar[bool] = False

    def statistics(self, scores: TokenScores) -> Statistics:
        """Return the summed loss and the number of target tokens."""
        return [math.fsum(scores.losses), float(len(scores.losses))]

    def value(self, total: Statistics) -> float:
        """Compute `exp(loss / tokens)`; infinity if this overflows, NaN if there is no token."""
        loss_sum, num_target_tokens = total
        if not num_target_tokens:
            return math.nan
        try:
            return math.exp(loss_sum / num_target_tokens)
        except OverflowError:
            return math.inf

    def signature(self) -> str:
        """Return the metric's name, its formula, the logarithm's base, and whose tokens are counted: the model's."""
        return "perplexity|exp(sum of losses / target tokens)|log:e|by:model tokens"
