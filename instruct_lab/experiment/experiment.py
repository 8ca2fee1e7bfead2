"""The component `Experiment`: the whole configuration of a run, with a field for each group of options."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from instruct_lab.batching import Batching, Layout
from instruct_lab.callbacks import Callback
from instruct_lab.config import Component, ExternalClass, component
from instruct_lab.config.spelling import nearest
from instruct_lab.data import Data
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.evaluation import Evaluation, EvaluationSetup
from instruct_lab.files import user_path
from instruct_lab.generation import Generation
from instruct_lab.lr_scheduler import LRScheduler
from instruct_lab.metrics import Benchmarks, LengthControlledWinRate, Metric, WinRate
from instruct_lab.model import Model
from instruct_lab.objective import Objective
from instruct_lab.optimizer import Optimizer
from instruct_lab.preprocessing import Preprocessing
from instruct_lab.records.folder import name_fault
from instruct_lab.template import Template
from instruct_lab.tracker import Tracker
from instruct_lab.tuning import Tuning


@component
class Experiment(Component):
    """The whole configuration of a run; `conf/train.yaml` sets its default values."""

    name_in_messages: ClassVar[str | None] = "the config"
    written_paths: ClassVar[tuple[str, ...]] = ("runs_path", "cache_path")

    name: str | None  # folder of the run's records; null: the chosen options as DATA-MODEL-TUNING
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # random seed of initialisation, example order, dropout and sampling
    runs_path: str  # folder of all run records
    cache_path: str  # folder for downloads, converted models and cached results
    data: Data
    preprocessing: Preprocessing
    template: Template
    batching: Batching
    model: Model
    tuning: Tuning
    objective: Objective
    optimizer: Optimizer
    lr_scheduler: LRScheduler
    generation: Generation
    metrics: dict[str, Metric | Benchmarks | None]
    evaluation: Evaluation
    trainer: ExternalClass
    tracker: dict[str, Tracker | ExternalClass | None]
    callbacks: dict[str, Callback | ExternalClass | None]

    def __post_init__(self) -> None:
        if self.name is not None and (reason := name_fault(self.name)):
            raise Refusal("name", reason)
        for field in ("runs_path", "cache_path"):
            path = getattr(self, field)
            try:
                folder = user_path(path)
            except InstructLabError as error:
                raise Refusal(field, error.what) from error
            if not path or (folder.exists() and not folder.is_dir()):
                raise Refusal(field, "expected the path of a folder, which need not exist yet")
        win_rates = [name for name, metric in self.metrics.items() if isinstance(metric, WinRate)]
        for name, metric in self.metrics.items():
            if isinstance(metric, LengthControlledWinRate) and metric.of not in win_rates:
                known = f"the win rates are {', '.join(win_rates)}" if win_rates else "the metrics hold no win rate"
                reason = f"{metric.of!r} is no win rate; {known}"
                raise Refusal(f"metrics.{name}.of", reason, nearest(metric.of, win_rates))

    @property
    def active_metrics(self) -> dict[str, Metric]:
        """The run's metrics, keyed by name, without the benchmarks and without metrics that the config sets to null."""
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, Metric)}

    @property
    def benchmarks(self) -> dict[str, Benchmarks]:
        """The benchmarks among the metrics, keyed by name."""
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, Benchmarks)}

    @property
    def layout(self) -> Layout:
        """How the token ids of an example are arranged, which depends on the objective and the model's family."""
        return Layout(self.objective.reads, self.model.family)

    @property
    def cannot_answer(self) -> str | None:
        """The reason why the model cannot answer prompts, or `None` if it can."""
        if self.model.family == "encoder":
            return "an encoder fills in masked tokens, and writes no text from left to right"
        if not self.objective.generates:
            return f"{type(self.objective).__name__} trains a model that gives no text"
        return None

    @property
    def reports_by_source(self) -> bool:
        """Whether results on held-out data are reported for each data source too, not only for all sources together."""
        chosen = self.evaluation.by_source
        return self.data.by_source if chosen is None else chosen

    @property
    def evaluation_setup(self) -> EvaluationSetup:
        """The components and settings of the run that its evaluation uses."""
        precision = self.trainer.arguments.get("precision")
        return EvaluationSetup(
            model=self.model,
            template=self.template,
            batching=self.batching,
            layout=self.layout,
            objective=self.objective,
            generation=self.generation,
            metrics=self.active_metrics,
            seed=self.seed,
            batch_tokens=self.evaluation.batch_tokens,
            precision=None if precision is None else str(precision),
            by_source=self.reports_by_source,
            show_samples=self.evaluation.show_samples,
            benchmarks=self.benchmarks,
        )
