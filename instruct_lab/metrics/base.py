"""What a metric is: sufficient statistics for each example, summed, turned into a value once."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import ClassVar

from instruct_lab.config import Component


@dataclasses.dataclass(frozen=True, slots=True)
class MetricValue:
    """A value with its 95% bootstrap interval over examples."""

    value: float
    low: float
    high: float
    count: int  # examples
    signature: str  # how it was computed, in the reference library's own words


class Metric(Component, ABC):
    """A sum of sufficient statistics over examples, and a function of that sum.

    So the value does not move with the batch size or the number of devices, and an interval is one resampling of rows.
    """

    higher_is_better: ClassVar[bool] = True

    @abstractmethod
    def value(self, total: list[float]) -> float:
        """The metric from the summed statistics of any set of examples."""

    @abstractmethod
    def signature(self) -> str:
        """How the value is computed: the library, its version and its settings."""

    def signature_of(self, rows: list[list[float]]) -> str:
        """The signature with what only the examples tell (such as how many references each had)."""
        return self.signature()

    def example_score(self, statistics: list[float]) -> float:
        """The score of one example alone, where a corpus's formula needs a change to be of use on one."""
        return self.value(statistics)


class AnswerMetric(Metric, ABC):
    """Scores a generated answer against references."""

    @abstractmethod
    def statistics(self, prediction: str, references: tuple[str, ...]) -> list[float]:
        """One example's sufficient statistics, always of the same length.

        Raises:
            InstructLabError: the example has no reference.
        """


class LikelihoodMetric(Metric, ABC):
    """Scores the references' own tokens under the model: no answer is generated."""

    @abstractmethod
    def statistics(self, loss_sum: float, num_target_tokens: int) -> list[float]:
        """One example's sufficient statistics from its summed loss in nats over its target tokens."""
