"""The base classes of metrics.

Most metrics compute a few numbers for each example (its statistics, such as the numbers of correct and of all words),
sum them over examples, and compute their value from the sums. Some measures, such as the number of different words in
all answers, cannot be computed in this way. Their metrics store each answer, compare all answers to compute how much
each one contributes to the measure, and sum these contributions.
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
"""The numbers from which a metric is computed, for one example or summed over several examples."""
Row = TypeVar("Row", bound=Sequence[Any])
"""The stored data of one example: its `Statistics` (a list in JSON) or the answer itself (a text)."""


@dataclasses.dataclass(frozen=True, slots=True)
class MetricValue:
    """A metric's value with its 95% bootstrap interval over examples, or over clusters of related examples."""

    value: float
    low: float
    high: float
    count: int  # number of examples
    signature: str  # how the value was computed, in the format of the reference library
    notes: tuple[str, ...] = dataclasses.field(default=(), metadata=OMIT_EMPTY)  # reasons why the value may mislead
    by_example: tuple[float, float] | None = dataclasses.field(default=None, metadata=OMIT_EMPTY)
    """The interval from resampling single examples, if `low` and `high` are from resampling clusters of examples.

    `None` if they are not, or if both intervals have nearly the same width.
    """


class Metric(Component, ABC, Generic[Row]):
    """A measure that is computed from statistics (a few numbers for each example) after they are summed over examples.

    The value therefore does not depend on the batch size or the number of devices, and its interval can be computed by
    resampling examples. `Row` is the type of the data stored for each example.
    """

    higher_is_better: ClassVar[bool | None] = True
    """Whether a higher value is better; `False` if a lower value is better, `None` if neither is better."""

    typical_deviation: ClassVar[float | None] = None
    """The standard deviation, over examples, of the difference between the scores of two similar configurations.

    It is used before a run to estimate the smallest difference that can be detected with the number of examples. The
    numbers in this package were measured in the study `tuning_methods`: each is the median over all pairs of its four
    best tuning methods, on both held-out splits. `None` if no number is known, or if none would be typical.
    """

    reads: ClassVar[Literal["answers", "likelihood", "value"]]
    """What the metric reads: generated answers, the likelihood of target tokens, or a value from the objective."""

    @property
    def num_answers(self) -> int:
        """How many answers to each prompt the metric needs."""
        return 1

    @abstractmethod
    def value(self, total: Statistics) -> float:
        """Compute the metric from the summed statistics of a set of examples."""

    @abstractmethod
    def signature(self) -> str:
        """Describe how the value is computed: the library, its version and its settings."""

    def signature_of(self, rows: list[Row]) -> str:
        """Return `signature()`, extended by facts about the given examples, such as their number of references."""
        return self.signature()

    def notes(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> list[str]:
        """Return the reasons why the metric's value on the given examples may mislead, one line for each.

        Args:
            rows: the data that the metric stores for each example.
            predictions: the answers with references; empty for a metric that does not read answers.
        """
        return []

    def parts(self, rows: list[Row]) -> list[Statistics]:
        """Convert the stored data of all examples to the statistics that are summed, one list for each example.

        For most metrics, the stored data are the statistics, so that `rows` is returned unchanged.
        """
        return rows  # type: ignore[return-value]  # metrics with other rows override this

    def example_score(self, statistics: Statistics) -> float:
        """Compute the score of one example from its statistics.

        By default, it is the metric's value for a set of examples that has only this one.
        """
        return self.value(statistics)


class AnswerMetric(Metric[Row], ABC):
    """Scores a generated answer against references.

    A metric computes a list of numbers from each answer, its statistics. The last of them is 1 if the answer is empty,
    else 0. Empty answers are scored as the original implementation of the metric does. The metric's signature (the text
    on how its value is computed) contains the number of empty answers.
    """

    reads: ClassVar = "answers"

    reads_samples: ClassVar[bool] = False
    """Whether the metric reads all answers to a prompt, not only the first."""

    def for_references(self, references: Sequence[str]) -> Self:
        """Return a copy of the metric whose settings suit the references, such as a tokenizer for their writing system.

        Args:
            references: the references of all examples that are measured together.
        """
        return self

    @abstractmethod
    def statistics(self, prediction: str, references: tuple[str, ...]) -> Row:
        """Compute the data that is stored for one example: for most metrics, the list of its statistics.

        The list has the same length for every example. Its last number is 1 if the answer is empty, else 0.

        Args:
            prediction: the generated answer.
            references: acceptable answers.

        Raises:
            InstructLabError: the example has no reference.
        """

    def of_prediction(self, prediction: Prediction) -> Row:
        """Compute the data that is stored for one example from its prediction.

        By default, this calls `statistics` with the answer and the references. A metric that also needs other sampled
        answers, or other columns of the data row, overrides this method.
        """
        return self.statistics(prediction.text, prediction.references)

    def has_empty_answer(self, row: Row) -> bool:
        """Whether the answer of an example is empty."""
        return bool(row[-1])

    def signature_of(self, rows: list[Row]) -> str:
        """Return `signature()`, extended by the number of empty answers if there are any."""
        return self.signature() + self.empty_count(rows)

    def empty_count(self, rows: list[Row]) -> str:
        """Return the number of empty answers as part of a signature; an empty string if no answer is empty."""
        count = sum(map(self.has_empty_answer, rows))
        return f"|empty:{count}" if count else ""


class RowMetric(AnswerMetric[Statistics], ABC):
    """Scores an answer by columns of its data row that are not the reference, such as tests for a program."""

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Raise an error, because the metric needs further columns of the data row, which only `of_prediction` reads.

        Raises:
            InstructLabError: always.
        """
        raise InstructLabError(f"{type(self).__name__} needs the columns of a row, not only an answer and references")

    @abstractmethod
    def of_prediction(self, prediction: Prediction) -> Statistics:
        """Compute the statistics of one example from the answer and from the columns in `prediction.metadata`."""


class CorpusMetric(AnswerMetric[str], ABC):
    """A measure of all answers together, such as their diversity, for which the answers have to be compared.

    The data stored for an example is its answer. `shares` compares all answers and computes how much each one
    contributes to the measure. The value is computed from the sum of these contributions. For the interval, the
    examples are drawn again with replacement (bootstrap), and each keeps its contribution. Comparing the drawn answers
    instead would bias the interval: some are drawn twice, so they are less diverse than the whole set.
    """

    def statistics(self, prediction: str, references: tuple[str, ...]) -> str:
        """Return the answer; references are not used."""
        return prediction

    def parts(self, rows: list[str]) -> list[Statistics]:
        """Compute how much each answer contributes to the measure, by comparing all answers."""
        return self.shares([_text(row) for row in rows])

    @abstractmethod
    def shares(self, answers: list[str]) -> list[Statistics]:
        """Compare all answers and compute how much each one contributes to the measure.

        Returns:
            The numbers to sum over answers, one list for each answer.
        """

    def has_empty_answer(self, row: str) -> bool:
        """Whether the answer is empty or white space."""
        return bool(is_empty(_text(row)))


class LikelihoodMetric(Metric[Statistics], ABC):
    """Scores the probabilities that the model gives to the tokens of the references, without generating an answer."""

    reads: ClassVar = "likelihood"

    @abstractmethod
    def statistics(self, scores: TokenScores) -> Statistics:
        """Compute the statistics of one example from the model's scores of its target tokens.

        The number of statistics is the same for every example.
        """


class ValueMetric(Metric[Statistics], ABC):
    """Reads a value that the objective computes for each example, such as the reward margin of a preference pair.

    The value is in the dictionary `values` of the objective's `Loss`.
    """

    reads: ClassVar = "value"

    value_name: ClassVar[str]
    """The name of the objective's value that the metric reads: a key of `Loss.values`."""

    @abstractmethod
    def statistics(self, value: float) -> Statistics:
        """Compute the statistics of one example from the objective's value for it."""


def is_empty(answer: str) -> float:
    """Return 1 if an answer is empty or white space, else 0."""
    return float(not answer.strip())


def _text(row: str | Sequence[float]) -> str:
    """Return an answer as text; earlier versions of instruct_lab stored answers as lists of Unicode code points."""
    return row if isinstance(row, str) else "".join(chr(int(point)) for point in row)
