"""Benchmarks: tasks of another library, which bring their own examples, prompts and scores.

A metric scores the run's own held-out examples. A task has other examples, so in the name of its results the task takes
the place of the split: `arc_easy/acc` beside `test/chrf`. Intervals and paired tests are computed as for metrics.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from instruct_lab.config import Component
from instruct_lab.metrics.base import Metric, Statistics

if TYPE_CHECKING:
    from instruct_lab.generation import Prediction
    from instruct_lab.model import LoadedModel
    from instruct_lab.template import Template


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """The scores of every example of one task, or of a group of tasks that are reported together.

    Args:
        predictions: the model's responses with the references, one for each example.
        rows: for each score, keyed by its name, the statistics of every example. These are two numbers: the example's
            contribution to the score times the example's weight, and the weight.
        sources: the name of each example's task.
        signatures: description of how each score is computed, keyed by the name of the score.
        clusters: for each example, the name of its cluster of related examples; empty if the task has no clusters.
    """

    predictions: list[Prediction]
    rows: dict[str, list[Statistics]]
    sources: list[str]
    signatures: dict[str, str]
    clusters: list[str] = dataclasses.field(default_factory=list)


class Benchmarks(Component, ABC):
    """A suite of tasks with their own examples, on which a model is measured besides the run's held-out examples."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The names of the chosen tasks and groups of tasks."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return what determines the results besides the model and the fields of this component.

        Examples are the versions of packages and the hashes of files.
        """

    @abstractmethod
    def measure(
        self, loaded: LoadedModel, template: Template, known: Collection[str] = ()
    ) -> Iterator[tuple[str, TaskScores]]:
        """Measure a model on one task after the other; yield the name of each task or group of tasks with its scores.

        Args:
            loaded: the model in memory, with or without adapters.
            template: the template of the run, for prompts that are rendered as conversations.
            known: names of tasks and groups of tasks to leave out, because they have been measured before.

        Raises:
            InstructLabError: a task cannot be loaded, its data cannot be reached, or the model cannot be measured.
        """


@dataclasses.dataclass(frozen=True)
class BenchmarkScore(Metric[Statistics]):
    """A score of a task: the weighted mean of what the examples contribute.

    The library that provides the task determines the range of the score, such as 0 to 1 for an accuracy.

    The statistics of an example are two numbers: its contribution times its weight, and its weight. If the task's score
    is a mean over examples, the contribution of an example is its own score.

    Args:
        computed: description of how the score is computed.
    """

    computed: str

    def value(self, total: Statistics) -> float:
        """Compute the weighted mean; NaN if the sum of the weights is 0."""
        return total[0] / total[1] if total[1] else math.nan

    def signature(self) -> str:
        """Return the description of how the score is computed."""
        return self.computed


class BenchmarkError(BenchmarkScore):
    """A score of a task that is better when it is lower, such as a perplexity."""

    higher_is_better: ClassVar[bool | None] = False


class BenchmarkFigure(BenchmarkScore):
    """A score of a task for which neither direction is better."""

    higher_is_better: ClassVar[bool | None] = None


DIRECTIONS: dict[bool | None, str] = {True: "higher", False: "lower", None: "neither"}
"""The last part of a task score's signature (the text on how it is computed), keyed by whether higher is better."""
CLASSES = {"higher": BenchmarkScore, "lower": BenchmarkError, "neither": BenchmarkFigure}


def score_of(signature: str) -> BenchmarkScore:
    """Create the metric of a recorded score from the signature that the record stores with the score.

    The end of the signature says whether higher or lower values are better.
    """
    return CLASSES.get(signature.rpartition("|better:")[2], BenchmarkFigure)(signature)
