"""Metrics of preference pairs, which compare the objective's scores of the chosen and the rejected answer."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

from instruct_lab.config import component
from instruct_lab.metrics.base import Statistics, ValueMetric


class PairMetric(ValueMetric, ABC):
    """Base class of metrics that average a number which the objective computes for each preference pair."""

    def statistics(self, value: float) -> Statistics:
        """Return the pair's number from the objective and a count of 1, both to be summed over pairs."""
        return [float(value), 1.0]

    def value(self, total: Statistics) -> float:
        """Compute the mean value over all pairs."""
        return total[0] / total[1]


@component
class PreferenceAccuracy(PairMetric):
    """Preference accuracy: the percentage of pairs whose chosen answer has the higher score.

    The objective defines the score: the implicit reward of DPO (Rafailov et al., 2023) and similar objectives, or the
    output of a reward model. Choosing at random gives 50.
    """

    value_name: ClassVar[str] = "accuracy"

    def value(self, total: Statistics) -> float:
        """Compute the percentage of pairs whose chosen answer has the higher score."""
        return 100 * total[0] / total[1]

    def signature(self) -> str:
        """Return the metric's name, and that it counts pairs whose chosen answer has the higher score."""
        return "preference_accuracy|chosen > rejected|by:objective's score"


@component
class RewardMargin(PairMetric):
    """Reward margin: the score of the chosen answer minus the score of the rejected answer, averaged over pairs.

    It is unbounded and its unit depends on the objective, so compare only runs of one objective with the same settings.
    """

    value_name: ClassVar[str] = "margin"

    def signature(self) -> str:
        """Return the metric's name, and that it subtracts the rejected answer's score from the chosen answer's."""
        return "reward_margin|chosen - rejected|by:objective's score"
