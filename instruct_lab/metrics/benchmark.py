"""Benchmarks: tasks of another library, which bring their own examples, prompts and scores.

A metric scores the run's own held-out examples. A task has examples of its own, so its results are named like those of
a further split: `arc_easy/acc` beside `test/chrf`. Intervals and paired tests are computed as for metrics.
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
        rows: the statistics of each example for a `BenchmarkScore`, keyed by the name of the score.
        sources: name of each example's task.
        signatures: description of how each score is computed, keyed by the name of the score.
        clusters: the group of related examples that each example belongs to; empty if the task names no groups.
    """

    predictions: list[Prediction]
    rows: dict[str, list[Statistics]]
    sources: list[str]
    signatures: dict[str, str]
    clusters: list[str] = dataclasses.field(default_factory=list)


class Benchmarks(Component, ABC):
    """Tasks with examples of their own, on which a model is measured in addition to the run's held-out examples."""

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """The names of the chosen tasks and groups of tasks."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return what else determines the results, such as versions of packages and hashes of files.

        The model and this component's fields are not included.
        """

    @abstractmethod
    def measure(
        self, loaded: LoadedModel, template: Template, known: Collection[str] = ()
    ) -> Iterator[tuple[str, TaskScores]]:
        """Measure a model on one task after the other; yield the name of each task or group with its scores.

        Args:
            loaded: the model in memory, with or without adapters.
            template: the template of the run, for prompts that are rendered as conversations.
            known: names of tasks and groups that have been measured before and are left out.

        Raises:
            InstructLabError: a task cannot be loaded, its data cannot be reached, or the model cannot be measured.
        """


@dataclasses.dataclass(frozen=True)
class BenchmarkScore(Metric[Statistics]):
    """A score of a task: the weighted mean of the examples' contributions, on the scale of the task's library.

    The statistics of an example are its weighted contribution and its weight. For a mean of scores, the contribution is
    the score itself.

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
"""The last part of the signature of a task's score, keyed by whether a higher score is better."""
CLASSES = {"higher": BenchmarkScore, "lower": BenchmarkError, "neither": BenchmarkFigure}


def score_of(signature: str) -> BenchmarkScore:
    """Create the score that a recorded signature describes; its end says which direction is better."""
    return CLASSES.get(signature.rpartition("|better:")[2], BenchmarkFigure)(signature)
