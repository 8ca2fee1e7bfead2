"""What a metric is: sufficient statistics for each example, summed, turned into a value once.

A measure that is no function of sums (how many different words all answers together have) first turns the rows of all
examples into each example's share of it: `Metric.parts`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar

from instruct_lab.config import Component
from instruct_lab.errors import InstructLabError
from instruct_lab.files import OMIT_EMPTY

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction
    from instruct_lab.objective import TokenScores

Statistics = list[float]
"""The sufficient statistics of one example, or their sum over several."""
Row = TypeVar("Row", bound=Sequence[Any])
"""What a metric keeps of one example: its `Statistics`, or the answer itself; JSON holds it as a list or a text."""


@dataclasses.dataclass(frozen=True, slots=True)
class MetricValue:
    """A value with its 95% bootstrap interval over examples."""

    value: float
    low: float
    high: float
    count: int  # examples
    signature: str  # how it was computed, in the reference library's own words
    notes: tuple[str, ...] = dataclasses.field(default=(), metadata=OMIT_EMPTY)  # why it may not mean what it seems to


class Metric(Component, ABC, Generic[Row]):
    """A sum of sufficient statistics over examples, and a function of that sum.

    So the value does not depend on the batch size or the number of devices, and an interval is one resampling of rows.
    `Row` is the type of what is kept of each example.
    """

    higher_is_better: ClassVar[bool | None] = True
    """Which way a metric is better: false where a lower value is, none where neither is."""

    reads: ClassVar[Literal["answers", "likelihood", "value"]]
    """What an example is scored by: a generated answer, its labels' likelihood, or a value of the objective."""

    @property
    def num_answers(self) -> int:
        """How many answers to each prompt the metric reads."""
        return 1

    @abstractmethod
    def value(self, total: Statistics) -> float:
        """The metric from the summed statistics of any set of examples."""

    @abstractmethod
    def signature(self) -> str:
        """How the value is computed: the library, its version and its settings."""

    def signature_of(self, rows: list[Row]) -> str:
        """The signature with what depends on the examples (such as how many references each had)."""
        return self.signature()

    def notes(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> list[str]:
        """Why the value of these examples cannot mean what it seems to mean; one line each, without the metric's name.

        Args:
            rows: of the examples.
            predictions: their answers with references; empty for a metric that reads none.
        """
        return []

    def parts(self, rows: list[Row]) -> list[Statistics]:
        """The statistics to sum, one list for each example, from the rows of the whole set.

        For most metrics these are the rows.
        """
        return rows  # type: ignore[return-value]  # a metric with other rows overrides this

    def example_score(self, statistics: Statistics) -> float:
        """The score of one example; overridden where a corpus's formula needs a change to be of use on one."""
        return self.value(statistics)


class AnswerMetric(Metric[Row], ABC):
    """Scores a generated answer against references.

    The last statistic of an example is 1 if its answer is empty, else 0 (`is_empty`): empty answers are scored as the
    reference implementation scores them, and counted in the signature.
    """

    reads: ClassVar = "answers"

    def for_references(self, references: Sequence[str]) -> Self:
        """The metric with every setting chosen that it leaves to the references, such as the tokenizer.

        Args:
            references: of all examples that are measured together.
        """
        return self

    @abstractmethod
    def statistics(self, prediction: str, references: tuple[str, ...]) -> Row:
        """One example's row; sufficient statistics have the same length for all, and end with `is_empty(prediction)`.

        Raises:
            InstructLabError: the example has no reference.
        """

    def of_prediction(self, prediction: Prediction) -> Row:
        """The same, for a metric that needs more of a prediction than its text (further samples, metadata)."""
        return self.statistics(prediction.text, prediction.references)

    def has_empty_answer(self, row: Row) -> bool:
        """Whether the answer of an example was empty."""
        return bool(row[-1])

    def signature_of(self, rows: list[Row]) -> str:
        """The signature, with the number of empty answers if there are any."""
        return self.signature() + self.empty_count(rows)

    def empty_count(self, rows: list[Row]) -> str:
        """The part of a signature that counts empty answers; empty if there are none."""
        count = sum(map(self.has_empty_answer, rows))
        return f"|empty:{count}" if count else ""


class RowMetric(AnswerMetric[Statistics], ABC):
    """Scores an answer by the columns of its data row beside references: a program's tests, instructions to verify."""

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Not for this metric.

        Raises:
            InstructLabError: always; a text and its references are not enough, see `of_prediction`.
        """
        raise InstructLabError(f"{type(self).__name__} needs the columns of a row, not only an answer and references")

    @abstractmethod
    def of_prediction(self, prediction: Prediction) -> Statistics:
        """One example's sufficient statistics, from the prediction's metadata."""


class CorpusMetric(AnswerMetric[str], ABC):
    """A measure of all answers together that is no function of sums over examples, such as their diversity.

    An example's row is its answer. From all answers of a set, `shares` gives each one's share; the measure is their
    sum, turned into a value. The interval resamples examples with their shares of the whole set: if the shares were
    computed for each resample, every resample would be less diverse than the set, as it holds examples twice.
    """

    def statistics(self, prediction: str, references: tuple[str, ...]) -> str:
        """The answer; references are not used."""
        return prediction

    def parts(self, rows: list[str]) -> list[Statistics]:
        """Each example's share, from the answers of all."""
        return self.shares([_text(row) for row in rows])

    @abstractmethod
    def shares(self, answers: list[str]) -> list[Statistics]:
        """Each answer's statistics within the set, `[answers, statistics]`, to be summed."""

    def has_empty_answer(self, row: str) -> bool:
        """Whether the answer is empty or white space."""
        return bool(is_empty(_text(row)))


class LikelihoodMetric(Metric[Statistics], ABC):
    """Scores the references' own tokens under the model: no answer is generated."""

    reads: ClassVar = "likelihood"

    @abstractmethod
    def statistics(self, scores: TokenScores) -> Statistics:
        """One example's sufficient statistics, always of the same length."""


class ValueMetric(Metric[Statistics], ABC):
    """Reads a value that the objective computes for each example, such as whether the chosen answer scores higher.

    See `instruct_lab.objective.Loss.values`.
    """

    reads: ClassVar = "value"

    value_name: ClassVar[str]
    """The name of that value."""

    @abstractmethod
    def statistics(self, value: float) -> Statistics:
        """One example's sufficient statistics."""


def is_empty(answer: str) -> float:
    """1 if an answer is empty or white space, else 0."""
    return float(not answer.strip())


def _text(row: str | Sequence[float]) -> str:
    """The answer; records of earlier versions hold it as code points."""
    return row if isinstance(row, str) else "".join(chr(int(point)) for point in row)
