"""Whether the chosen answer of a pair has the higher score, by the objective."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

from instruct_lab.config import component
from instruct_lab.metrics.base import Statistics, ValueMetric


class PairMetric(ValueMetric, ABC):
    """The mean over pairs of a value that the objective computes for each."""

    def statistics(self, value: float) -> Statistics:
        """The value, and 1."""
        return [float(value), 1.0]

    def value(self, total: Statistics) -> float:
        """The mean over pairs."""
        return total[0] / total[1]


@component
class PreferenceAccuracy(PairMetric):
    """Preference accuracy: how many of 100 pairs have the higher score for the chosen answer.

    The score is the objective's: the implicit reward of DPO (Rafailov et al., 2023) and its kin, or that of a reward
    model. Chance is 50.
    """

    value_name: ClassVar[str] = "accuracy"

    def value(self, total: Statistics) -> float:
        """The share of pairs, 0 to 100."""
        return 100 * total[0] / total[1]

    def signature(self) -> str:
        """What is compared."""
        return "preference_accuracy|chosen > rejected|by:objective's score"


@component
class RewardMargin(PairMetric):
    """Reward margin: the chosen answer's score less the rejected one's, the mean over pairs; unbounded.

    In the objective's own unit, so only runs of one objective with the same settings compare by it.
    """

    value_name: ClassVar[str] = "margin"

    def signature(self) -> str:
        """What is subtracted."""
        return "reward_margin|chosen - rejected|by:objective's score"
