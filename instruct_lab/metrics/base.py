"""What a metric is: sufficient statistics for each example, summed, turned into a value once.

A measure that is no function of sums (how many different words all answers together have) first turns the rows of all
examples into each example's part of it: `Metric.parts`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from instruct_lab.config import Component
from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction
    from instruct_lab.objective import TokenScores


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

    reads: ClassVar[Literal["answers", "likelihood", "value"]]
    """What an example is scored by: a generated answer, its labels' likelihood, or a value that the objective tells."""

    @property
    def num_answers(self) -> int:
        """How many answers to each prompt the metric reads."""
        return 1

    @abstractmethod
    def value(self, total: list[float]) -> float:
        """The metric from the summed statistics of any set of examples."""

    @abstractmethod
    def signature(self) -> str:
        """How the value is computed: the library, its version and its settings."""

    def signature_of(self, rows: list[list[float]]) -> str:
        """The signature with what only the examples tell (such as how many references each had)."""
        return self.signature()

    def parts(self, rows: list[list[float]]) -> list[list[float]]:
        """The rows to sum, `[examples, statistics]`, from those of the whole set; for most metrics these themselves."""
        return rows

    def example_score(self, statistics: list[float]) -> float:
        """The score of one example alone, where a corpus's formula needs a change to be of use on one."""
        return self.value(statistics)


class AnswerMetric(Metric, ABC):
    """Scores a generated answer against references.

    The last statistic of an example tells whether its answer is empty (`is_empty`): empty answers are scored as the
    reference implementation scores them, and counted in the signature.
    """

    reads: ClassVar = "answers"

    @abstractmethod
    def statistics(self, prediction: str, references: tuple[str, ...]) -> list[float]:
        """One example's sufficient statistics, always of the same length, the last of them `is_empty(prediction)`.

        Raises:
            InstructLabError: the example has no reference.
        """

    def of_prediction(self, prediction: Prediction) -> list[float]:
        """The same, for a metric that needs more of a prediction than its text (further samples, metadata)."""
        return self.statistics(prediction.text, prediction.references)

    def signature_of(self, rows: list[list[float]]) -> str:
        """The signature, with the number of empty answers where there are any."""
        return self.signature() + empty_count(rows)


class RowMetric(AnswerMetric, ABC):
    """Scores an answer by what its row holds beside references: a program's tests, instructions to verify."""

    def statistics(self, prediction: str, references: tuple[str, ...]) -> list[float]:
        """Not for this metric.

        Raises:
            InstructLabError: always; a text and its references do not tell enough, see `of_prediction`.
        """
        raise InstructLabError(f"{type(self).__name__} needs the columns of a row, not an answer and references alone")

    @abstractmethod
    def of_prediction(self, prediction: Prediction) -> list[float]:
        """One example's sufficient statistics, from the prediction's metadata."""


def is_empty(answer: str) -> float:
    """1 where an answer is nothing or white space, else 0."""
    return float(not answer.strip())


def empty_count(rows: list[list[float]]) -> str:
    """What a signature says of empty answers, from each row's last statistic; nothing where there are none."""
    count = sum(int(row[-1]) for row in rows)
    return f"|empty:{count}" if count else ""


class CorpusMetric(AnswerMetric, ABC):
    """A measure of all answers together that is no function of sums over examples, such as their diversity.

    An example's row is its answer itself, character by character, so that rows gather across processes and split by
    source as any others do. From all answers of a set, `shares` gives each one's part; the measure is their sum, turned
    into a value. The interval resamples examples with their parts as they are in the whole set: were the parts computed
    anew, every resample would be less diverse than the set, as it holds examples twice.
    """

    def statistics(self, prediction: str, references: tuple[str, ...]) -> list[float]:
        """The answer's code points; references take no part."""
        return [float(ord(character)) for character in prediction]

    def parts(self, rows: list[list[float]]) -> list[list[float]]:
        """Each example's part, from the answers of all."""
        return self.shares(["".join(chr(int(point)) for point in row) for row in rows])

    @abstractmethod
    def shares(self, answers: list[str]) -> list[list[float]]:
        """Each answer's statistics within the set, `[answers, statistics]`, to be summed."""

    def signature_of(self, rows: list[list[float]]) -> str:
        """The signature, with the number of empty answers where there are any."""
        return self.signature() + empty_count([[is_empty("".join(chr(int(point)) for point in row))] for row in rows])


class LikelihoodMetric(Metric, ABC):
    """Scores the references' own tokens under the model: no answer is generated."""

    reads: ClassVar = "likelihood"

    @abstractmethod
    def statistics(self, scores: TokenScores) -> list[float]:
        """One example's sufficient statistics, always of the same length."""


class ValueMetric(Metric, ABC):
    """Reads a value that the objective tells of each example, such as whether the chosen answer has the higher score.

    See `instruct_lab.objective.Loss.values`.
    """

    reads: ClassVar = "value"

    value_name: ClassVar[str]
    """The name of that value."""

    @abstractmethod
    def statistics(self, value: float) -> list[float]:
        """One example's sufficient statistics."""
