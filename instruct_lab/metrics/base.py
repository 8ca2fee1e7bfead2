"""The base classes of metrics. A metric sums sufficient statistics over examples and computes a value from the sums.

Some measures, such as the number of different words in all answers, are not functions of such sums. Their metrics store
each answer, compare all answers to compute how much each one contributes to the total (see `Metric.parts`), and sum
these contributions.
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
"""The sufficient statistics of one example, or their sum over several examples."""
Row = TypeVar("Row", bound=Sequence[Any])
"""The stored data of one example: its `Statistics` (a list in JSON) or the answer itself (a text)."""


@dataclasses.dataclass(frozen=True, slots=True)
class MetricValue:
    """A metric's value with its 95% bootstrap interval over examples, or over clusters of related examples."""

    value: float
    low: float
    high: float
    count: int  # number of examples
    signature: str  # how it was computed, in the format of the reference library
    notes: tuple[str, ...] = dataclasses.field(default=(), metadata=OMIT_EMPTY)  # reasons why the value may mislead
    by_example: tuple[float, float] | None = dataclasses.field(default=None, metadata=OMIT_EMPTY)
    """The interval that results if single examples are resampled instead of clusters.

    `None` if no clusters are resampled, or if the two intervals have nearly the same width.
    """


class Metric(Component, ABC, Generic[Row]):
    """A function of sufficient statistics that are summed over examples.

    The value therefore does not depend on the batch size or the number of devices, and its interval can be computed by
    resampling examples. `Row` is the type of the data stored for each example.
    """

    higher_is_better: ClassVar[bool | None] = True
    """Whether a higher value is better; `False` if a lower value is better, `None` if neither is better."""

    typical_deviation: ClassVar[float | None] = None
    """The standard deviation, over examples, of the difference between the scores of two similar configurations.

    Before a run, it is used to estimate the smallest difference that can be detected with the number of examples. The
    values of the metrics in this package are medians over the pairs of the four best methods of the study
    `tuning_methods`, on both held-out splits. `None` if no value is known, or if no value would be typical.
    """

    reads: ClassVar[Literal["answers", "likelihood", "value"]]
    """What the metric reads: a generated answer, the likelihood of the labels, or a value from the objective."""

    @property
    def num_answers(self) -> int:
        """The number of answers to each prompt that the metric needs."""
        return 1

    @abstractmethod
    def value(self, total: Statistics) -> float:
        """Compute the metric from the summed statistics of a set of examples."""

    @abstractmethod
    def signature(self) -> str:
        """Describe how the value is computed: the library, its version and its settings."""

    def signature_of(self, rows: list[Row]) -> str:
        """Return the signature, extended by facts about these examples, such as their number of references."""
        return self.signature()

    def notes(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> list[str]:
        """Return the reasons why the value on these examples may mislead: one line each, without the metric's name.

        Args:
            rows: the data that the metric stores for each example.
            predictions: the answers with references; empty for a metric that does not read answers.
        """
        return []

    def parts(self, rows: list[Row]) -> list[Statistics]:
        """Return the statistics that are summed over examples, one list for each example.

        Most metrics return `rows` unchanged. Other metrics compute the statistics from the rows of all examples.
        """
        return rows  # type: ignore[return-value]  # metrics with other rows override this

    def example_score(self, statistics: Statistics) -> float:
        """Compute the score of one example; a metric overrides this if its `value` does not suit a single example."""
        return self.value(statistics)


class AnswerMetric(Metric[Row], ABC):
    """Scores a generated answer against references.

    The last statistic of an example is 1 if its answer is empty, else 0 (`is_empty`). Empty answers are scored as in
    the reference implementation; the signature contains their number.
    """

    reads: ClassVar = "answers"

    reads_samples: ClassVar[bool] = False
    """Whether the metric reads all answers to a prompt, not only the first."""

    def for_references(self, references: Sequence[str]) -> Self:
        """Return a copy whose settings suit the references, for example with a tokenizer for their script.

        Args:
            references: the references of all examples that are measured together.
        """
        return self

    @abstractmethod
    def statistics(self, prediction: str, references: tuple[str, ...]) -> Row:
        """Compute the data that is stored for one example, which for most metrics is a list of statistics.

        The list ends with `is_empty(prediction)` and has the same length for every example.

        Raises:
            InstructLabError: the example has no reference.
        """

    def of_prediction(self, prediction: Prediction) -> Row:
        """Compute the data that is stored for one prediction.

        A metric overrides this to read further sampled answers or the metadata.
        """
        return self.statistics(prediction.text, prediction.references)

    def has_empty_answer(self, row: Row) -> bool:
        """Whether the answer of an example is empty."""
        return bool(row[-1])

    def signature_of(self, rows: list[Row]) -> str:
        """Return the signature, with the number of empty answers if there are any."""
        return self.signature() + self.empty_count(rows)

    def empty_count(self, rows: list[Row]) -> str:
        """Return the number of empty answers as part of a signature; an empty string if no answer is empty."""
        count = sum(map(self.has_empty_answer, rows))
        return f"|empty:{count}" if count else ""


class RowMetric(AnswerMetric[Statistics], ABC):
    """Scores an answer by other columns of its data row, such as tests for a program or instructions to verify."""

    def statistics(self, prediction: str, references: tuple[str, ...]) -> Statistics:
        """Raise an error, because a text and its references are not enough; see `of_prediction`.

        Raises:
            InstructLabError: always.
        """
        raise InstructLabError(f"{type(self).__name__} needs the columns of a row, not only an answer and references")

    @abstractmethod
    def of_prediction(self, prediction: Prediction) -> Statistics:
        """Compute the sufficient statistics of one example from the prediction and its metadata."""


class CorpusMetric(AnswerMetric[str], ABC):
    """A measure of all answers together, such as their diversity, that is not a function of sums over examples.

    The row of an example is its answer. `shares` compares all answers and computes what each one contributes to the
    total (its share), and the value is computed from the sum of the shares. For the interval, examples are resampled
    together with these shares. Computing new shares in each resample would bias the interval, because a resample
    contains some examples twice and is therefore less diverse than the whole set.
    """

    def statistics(self, prediction: str, references: tuple[str, ...]) -> str:
        """Return the answer; references are not used."""
        return prediction

    def parts(self, rows: list[str]) -> list[Statistics]:
        """Compute the share of each answer in the total, as defined by `shares`."""
        return self.shares([_text(row) for row in rows])

    @abstractmethod
    def shares(self, answers: list[str]) -> list[Statistics]:
        """Compare all answers and compute what each one contributes to the total.

        Returns:
            The statistics to sum, one list for each answer: `[answers, statistics]`.
        """

    def has_empty_answer(self, row: str) -> bool:
        """Whether the answer is empty or white space."""
        return bool(is_empty(_text(row)))


class LikelihoodMetric(Metric[Statistics], ABC):
    """Scores the tokens of the references under the model, without generating an answer."""

    reads: ClassVar = "likelihood"

    @abstractmethod
    def statistics(self, scores: TokenScores) -> Statistics:
        """Compute the sufficient statistics of one example; their number is the same for every example."""


class ValueMetric(Metric[Statistics], ABC):
    """Reads a value that the objective computes for each example, such as whether the chosen answer scores higher.

    See `instruct_lab.objective.Loss.values`.
    """

    reads: ClassVar = "value"

    value_name: ClassVar[str]
    """The name of the value that the metric reads."""

    @abstractmethod
    def statistics(self, value: float) -> Statistics:
        """Compute the sufficient statistics of one example."""


def is_empty(answer: str) -> float:
    """Return 1 if an answer is empty or white space, else 0."""
    return float(not answer.strip())


def _text(row: str | Sequence[float]) -> str:
    """Return the answer as text; records of earlier versions store it as code points."""
    return row if isinstance(row, str) else "".join(chr(int(point)) for point in row)
