"""Train from Python, and read and use recorded runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from instruct_lab.api.calls import guarded, interruptible, print_references, print_warnings
from instruct_lab.api.comparisons import ComparedRuns, compare_records
from instruct_lab.api.configs import check_overrides
from instruct_lab.errors import ConfigError, InstructLabError, wrap_errors

if TYPE_CHECKING:
    import pandas as pd

    from instruct_lab.experiment import Experiment
    from instruct_lab.export.formats import Format, WeightType
    from instruct_lab.generation import Generation
    from instruct_lab.records import RunRecord

RUNS = "runs"
"""The default folder of all run records."""


class TunedModel(NamedTuple):
    """A transformers model in evaluation mode, with its tokenizer."""

    model: Any
    tokenizer: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A recorded run; each property reads the record when it is accessed, so its value is up to date.

    Args:
        record: the run's folder on disk, with its config, results and checkpoints.
    """

    record: RunRecord

    def __repr__(self) -> str:
        return f"Run({self.record.name}/{self.record.id}, {self.status})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def id(self) -> str:
        """The id of the run."""
        return self.record.id

    @property
    def path(self) -> Path:
        """The folder of the run's record."""
        return self.record.path

    @property
    def status(self) -> str:
        """The run's status: `running`, `finished`, `failed`, `interrupted` or `pruned`."""
        return "interrupted" if self.record.is_process_gone else str(self.record.manifest.status)

    @property
    def config(self) -> dict[str, Any]:
        """The run's resolved config, as dictionaries and lists."""
        return self.record.config

    @property
    def choices(self) -> dict[str, Any]:
        """The option that the run chose in each group of the config."""
        return self.record.manifest.choices

    @property
    def metrics(self) -> pd.DataFrame:
        """The final results: one row for each metric and system, with `value`, `low`, `high` and `count`.

        The systems are `before` (the model before training), the data set's baselines, `after` (the tuned model) and
        `difference` (after minus before). `low` and `high` are the ends of the 95% interval of `value`, and `count` is
        the number of examples.
        """
        summary = self.record.summary
        found = {} if summary is None else summary.metrics
        numbers = ["value", "low", "high", "count"]
        rows = [
            {"metric": metric, "system": system, **{name: getattr(one, name) for name in numbers}}
            for metric, systems in found.items()
            for system, one in systems.items()
        ]
        return frame(rows, ["metric", "system", *numbers]).set_index(["metric", "system"])

    @property
    def predictions(self) -> pd.DataFrame:
        """The model's answers before and after training: one row for each held-out example.

        Each metric is a column with the score of the answer after training.
        """
        rows = []
        for line in self.record.read_predictions():
            entries = dataclasses.asdict(line)
            scores = entries.pop("scores")
            rows.append({**entries, **scores})
        return frame(rows, ["id", "split", "prompt", "prediction", "prediction_before", "references"])

    @property
    def curves(self) -> pd.DataFrame:
        """The values logged during training, such as the loss: one row for each optimizer step with a logged value."""
        return frame(self.record.read_metrics(), ["step", "epoch", "seconds"]).groupby("step").last()

    def model(self, checkpoint: Literal["best", "last"] | None = None, *, base: bool = False) -> TunedModel:
        """Load the tuned model, with its adapter merged if possible, and its tokenizer; use the GPU if there is one.

        Args:
            checkpoint: which weights to load; `None`: the weights with which the run was evaluated.
            base: whether to load the model before training instead.
        """
        with guarded():
            import torch

            from instruct_lab.training.quiet import quiet_libraries
            from instruct_lab.training.workspace import Workspace

            quiet_libraries()
            workspace = Workspace(self._experiment(), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            loaded = workspace.base().loaded if base else workspace.tuned(self.path, checkpoint).loaded
            return TunedModel(loaded.model, loaded.tokenizer)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        system: str | None = None,
        checkpoint: Literal["best", "last"] | None = None,
        base: bool = False,
        seed: int | None = None,
        **settings: Any,
    ) -> list[str]:
        """Generate an answer to each single-turn prompt, with the decoding settings of the run.

        Args:
            prompts: user messages; each begins a conversation of its own.
            system: a system message before each prompt; `None`: no system message.
            checkpoint: which weights to use; `None`: the weights with which the run was evaluated.
            base: whether to use the model before training instead.
            seed: random seed of sampled answers; `None`: the seed of the run.
            settings: decoding settings that replace those of the run, such as `max_new_tokens=64`.

        Raises:
            InstructLabError: the model cannot generate text, or a setting is unknown or has an invalid value.
        """
        if isinstance(prompts, str):
            raise InstructLabError("The prompts are one text", where="generate", do="give a list: ['the prompt']")
        with guarded():
            from instruct_lab.chat.answering import BASE, load_answerer, opening
            from instruct_lab.data import Message

            experiment = self._experiment()
            generation = _replace_generation(experiment, settings)
            seed = experiment.seed if seed is None else seed
            experiment = dataclasses.replace(experiment, generation=generation, seed=seed)
            answerer = load_answerer(experiment, self.record, BASE if base else checkpoint)
            return answerer.answer([(*opening(system), Message("user", prompt)) for prompt in prompts])

    def compare(self, *others: Run, metric: str | None = None) -> ComparedRuns:
        """Compare this run with others on the examples that they share.

        Args:
            others: the other runs.
            metric: the metric to compare, such as `test/chrf`; `None`: all metrics.
        """
        return compare_records([self.record, *(other.record for other in others)], metric)

    def evaluate(
        self,
        overrides: Sequence[str] = (),
        *,
        name: str | None = None,
        checkpoint: Literal["best", "last"] | None = None,
        replace: bool = False,
        allow: Sequence[str] = (),
    ) -> Run:
        """Evaluate the run's model again, on the run's data or on other data; the run's record keeps the results.

        Args:
            overrides: overrides that choose what to measure, such as `"data=path:questions.jsonl"`; empty: measure what
                the run itself measured.
            name: name of the evaluation; `None`: a name made from the overrides, or `own` if there are none.
            checkpoint: which weights to evaluate; `None`: the weights with which the run was evaluated.
            replace: whether to replace an earlier evaluation of this name that had other settings, data or weights.
            allow: names of permissions to grant, as after `--allow` on the command line.

        Returns:
            The run, whose `metrics` and `predictions` are the results of this evaluation.
        """
        with guarded(overrides, allow) as given, interruptible():
            from instruct_lab.records.evaluations import EvaluatedRecord
            from instruct_lab.terminal import wide_console
            from instruct_lab.training.evaluating import evaluate, prepare_job

            job = prepare_job(self.record, given, name=name, checkpoint=checkpoint, replaces=replace)
            evaluate(job, wide_console())
            return Run(EvaluatedRecord(self.path, job.files.name))

    def resume(self, *, force: bool = False, **limits: int) -> Run:
        """Continue an interrupted run from its last training state, or train a finished run for longer.

        Args:
            force: whether to continue even if settings, inputs or code have changed since the run last ran. The changes
                are then listed in the run's record.
            limits: new values of `max_epochs` and `max_steps` of the trainer.
        """
        with guarded(), interruptible():
            from instruct_lab.experiment.recorded import build_recorded
            from instruct_lab.training.run import resume

            resume(*build_recorded(self.record), self.record, limits=limits, force=force)
        return self

    def export(self, path: str | Path, *, format: Format = "hf", gguf_type: WeightType = "f16") -> Path:
        """Write the tuned model to a folder, in one of the formats of `instruct-lab export`, and return the folder.

        Args:
            path: the new folder.
            format: `hf`, `adapter`, `gguf`, `ollama` or `vllm`.
            gguf_type: type of the weights in a GGUF file.
        """
        with guarded():
            from instruct_lab.experiment.recorded import build_recorded
            from instruct_lab.export.export import Export, export

            experiment, config = build_recorded(self.record, uses_trackers=False, uses_data=False)
            job = Export(
                experiment=experiment,
                config=config,
                record=self.record,
                path=Path(path),
                form=format,
                weight_type=gguf_type,
            )
            return export(job).path

    def _experiment(self) -> Experiment:
        from instruct_lab.experiment.recorded import build_recorded

        return build_recorded(self.record, uses_trackers=False, uses_data=False)[0]


def train(overrides: Sequence[str] = (), *, allow: Sequence[str] = ()) -> Run:
    """Train, evaluate and record one run.

    Args:
        overrides: overrides such as `"tuning.r=4"`.
        allow: names of permissions to grant, as after `--allow` on the command line.

    Raises:
        ConfigError: the config has problems, and nothing was started.
        InstructLabError: the config describes a sweep, or the run failed; the record of a failed run has the reason.
    """
    with guarded(overrides, allow) as given, interruptible():
        from instruct_lab.sweep.plan import describes_sweep

        checked = check_overrides(given).or_refuse()
        if describes_sweep(checked):
            raise InstructLabError("The config describes a sweep", where="train", do="call instruct_lab.sweep")
        print_warnings(checked.warnings)
        print_references(checked.composition.choices)
        from instruct_lab.training.run import RunContext, train

        composition = checked.composition
        context = RunContext(facts={"derived": composition.derived})
        return Run(train(checked.experiment, checked.resolved, composition.choices, given, context))


def load_run(run: str | Path = "latest", *, runs_path: str | Path = RUNS) -> Run:
    """Open a recorded run.

    Args:
        run: a run's folder, id, unique prefix of an id, or `latest`.
        runs_path: the folder of all run records.

    Raises:
        InstructLabError: no run or several runs match.
    """
    from instruct_lab.records import find_run

    return Run(find_run(runs_path, run))


def find_runs(*conditions: str, runs_path: str | Path = RUNS) -> list[Run]:
    """Find recorded runs, oldest first; damaged records are left out.

    Args:
        conditions: conditions on config keys, chosen options, metrics or costs, such as `"tuning=lora"` or
            `"test/chrf>30"`; a run must fulfil all of them.
        runs_path: the folder of all run records.
    """
    from instruct_lab.records import RunRecord
    from instruct_lab.records.locate import DAMAGED
    from instruct_lab.records.query import find_runs

    found = find_runs(Path(runs_path), list(conditions), None, False)
    return [Run(RunRecord.open(one.run.path)) for one in found if one.run.status != DAMAGED]


# ---- inside


def frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Make a DataFrame of rows; its first columns are `columns`, even if no row has a value for them.

    Raises:
        InstructLabError: pandas is not installed.
    """
    with wrap_errors(ImportError, what="pandas is not installed", do="pip install pandas"):
        import pandas as pd
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(names))


def _replace_generation(experiment: Experiment, settings: dict[str, Any]) -> Generation:
    """Return the run's decoding settings, in which the values of `settings` replace those of the run.

    Raises:
        ConfigError: `settings` has a name that is no decoding setting, or an invalid value.
    """
    import pydantic

    from instruct_lab.config.field_problems import component_problems

    kind = type(experiment.generation)
    values = {field.name: getattr(experiment.generation, field.name) for field in dataclasses.fields(kind)} | settings
    try:
        return kind(**values)
    except pydantic.ValidationError as error:
        raise ConfigError(list(component_problems(error, kind, values, set(), "generation"))) from error
