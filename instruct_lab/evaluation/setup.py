"""The parts of an experiment that determine the evaluation of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from instruct_lab.batching import Batching, Layout
    from instruct_lab.generation import Generation
    from instruct_lab.generation.journal import AnswerJournal
    from instruct_lab.metrics import Benchmarks, Metric
    from instruct_lab.model import Model
    from instruct_lab.objective import Objective
    from instruct_lab.template import Template


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSetup:
    """The settings with which a model is evaluated; `Experiment.evaluation_setup` creates them.

    Args:
        model: the component that loads the evaluated model.
        template: template that renders prompts.
        batching: batching that encodes and collates examples.
        layout: how conversations become examples, given the objective and the model's family.
        objective: the run's objective. Some metrics read values that it computes, such as preference accuracy.
        generation: settings of decoding.
        metrics: the metrics, by name.
        seed: random seed of sampled answers.
        batch_tokens: maximum number of tokens of a batch, with padding; `None`: it is estimated from the memory.
        precision: the trainer's precision, which is part of the key of the base model's cached results; `None` means
            the trainer's default.
        by_source: whether results are also reported for each data source.
        show_samples: number of predictions printed below the results.
        selected_by: name of the logged value, such as `val/loss`, by which the evaluated checkpoint was chosen; `None`
            if the last checkpoint is evaluated.
        benchmarks: benchmarks on which the model is measured too, by name; they have examples of their own.
        journal: file to which the answers of each batch are written, so that a killed evaluation can continue; `None`
            keeps the answers only in memory.
    """

    model: Model
    template: Template
    batching: Batching
    layout: Layout
    objective: Objective
    generation: Generation
    metrics: dict[str, Metric[Any]]
    seed: int
    batch_tokens: int | None = None
    precision: str | None = None
    by_source: bool = False
    show_samples: int = 0
    selected_by: str | None = None
    benchmarks: dict[str, Benchmarks] = dataclasses.field(default_factory=dict)
    journal: AnswerJournal | None = None

    def scored_tokens(self, device: torch.device) -> int:
        """Return the maximum number of tokens, with padding, of a batch that is scored without generating answers."""
        from instruct_lab.model.token_budget import scored_tokens

        return scored_tokens(device) if self.batch_tokens is None else self.batch_tokens

    def for_references(self, references: Sequence[str]) -> EvaluationSetup:
        """Return a copy whose answer metrics suit the references, for example by a tokenizer for their writing system.

        Args:
            references: references of all examples of a split.
        """
        from instruct_lab.metrics import AnswerMetric

        metrics: dict[str, Metric[Any]] = {
            name: metric.for_references(references) if isinstance(metric, AnswerMetric) else metric
            for name, metric in self.metrics.items()
        }
        return dataclasses.replace(self, metrics=metrics)

    def with_answer_metrics(self) -> EvaluationSetup:
        """Return a copy with only the answer metrics, except those that compare the answers of two models."""
        from instruct_lab.metrics import AnswerMetric, ComparisonMetric

        answers: dict[str, Metric[Any]] = {
            name: metric
            for name, metric in self.metrics.items()
            if isinstance(metric, AnswerMetric) and not isinstance(metric, ComparisonMetric)
        }
        return dataclasses.replace(self, metrics=answers)
