"""The stages of one run: data and model, the untuned model's measurement, training, the tuned model's, the results."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich.console import Console

from instruct_lab.batching.layouts import train_last_answer
from instruct_lab.callbacks import Callback
from instruct_lab.callbacks.base import OnValidation
from instruct_lab.callbacks.checkpoint_writer import LAST_STATE
from instruct_lab.callbacks.evaluated_weights import EvaluatedWeights
from instruct_lab.callbacks.kept_weights import keep_weights
from instruct_lab.callbacks.optimizer_modes import OptimizerModes
from instruct_lab.callbacks.pruning import StopWhenPruned
from instruct_lab.callbacks.random_states import RandomStates
from instruct_lab.callbacks.step_log import StepLog
from instruct_lab.config import ExternalClass
from instruct_lab.data import Audit, Conversation
from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation import result
from instruct_lab.evaluation.measure import answer, answer_rows, baselines, measure, sample
from instruct_lab.evaluation.untuned import untuned
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.rules.monitoring import mode_argument
from instruct_lab.experiment.rules.trainer import FLOAT16, fixed_arguments
from instruct_lab.metrics.intervals import summarize
from instruct_lab.pages import audit_table
from instruct_lab.pages.audit_page import audit_page
from instruct_lab.records import Measurement, Results, RunRecord, Summary
from instruct_lab.records.schema import AFTER, AUDIT_PAGE, BEFORE
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.tracker.values import audit_reasons_table, final_values, predictions_table, results_table
from instruct_lab.training.costs import Costs
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.module import TuningModule
from instruct_lab.training.shared import SharedModels
from instruct_lab.training.tokenizer import load_tokenizer
from instruct_lab.training.tuned import chosen_weights, load_adapted, load_base, load_tuned
from instruct_lab.tuning import count_parameters
from instruct_lab.tuning.noise import add_embedding_noise


class Stages:
    """The stages of one run and what they hand on."""

    def __init__(
        self,
        experiment: Experiment,
        record: RunRecord,
        recorder: Recorder,
        console: Console,
        shared: SharedModels | None = None,
        on_validation: OnValidation | None = None,
    ) -> None:
        self.experiment = experiment
        self.shared = shared
        self.on_validation = on_validation
        self.record = record
        self.recorder = recorder
        self.console = console
        self.cache_path = Path(experiment.cache_path).expanduser()
        self.audit = Audit()
        self.results: Results = {}
        self.costs = Costs()
        self.trainer = self._trainer()
        self.device = self.trainer.strategy.root_device

    def _trainer(self) -> pl.Trainer:
        arguments: dict[str, Any] = dict(fixed_arguments(), default_root_dir=str(self.record.path), callbacks=[])
        try:
            trainer: pl.Trainer = self.experiment.trainer.build(**arguments)
        except (MisconfigurationException, ValueError, RuntimeError, ImportError, TypeError) as error:
            raise InstructLabError(
                f"The trainer cannot run here: {error}", where="trainer", do="choose another trainer option"
            ) from error
        if str(self.experiment.trainer.arguments.get("precision")) in FLOAT16 and trainer.precision not in FLOAT16:
            raise InstructLabError(
                f"The trainer would compute in {trainer.precision}, for it takes float16 on a GPU alone",
                where="trainer.precision",
                do="choose bf16-mixed or 32-true",
            )
        return trainer

    # ---- stages

    def prepare(self) -> None:
        """Load the data and the untuned model."""
        experiment = self.experiment
        self.tokenizer = load_tokenizer(experiment, self.cache_path, self.shared)
        try:
            self.data = InstructionData(experiment, self.tokenizer, self.cache_path, self.audit)
        except InstructLabError:
            if self.recorder.is_writer:
                self.record.write_audit(self.audit.to_json())
            raise
        self.chosen = {
            split: sample(self.data, split, experiment.evaluation.max_examples, experiment.reports_by_source)
            for split in experiment.evaluation.splits
            if self.data.examples.get(split)
        }
        self._tell_audit()
        self._check_fingerprint()
        keeps = experiment.tuning.shares_base
        self.base = load_base(
            experiment, self.cache_path, self.device, self.shared, private=not keeps, tokenizer=self.tokenizer
        )
        self.teacher = experiment.objective.load_teacher(self.tokenizer, self.cache_path, self.device)
        if experiment.objective.takes_reference_from_batch:
            self.data.add_reference(self.base.model)

    def _tell_audit(self) -> None:
        """What preprocessing did: a table here, `audit.json` and `audit.html` in the record, a table for trackers."""
        told = self.audit.to_json()
        audit_table.show(self.console, told)
        if not self.recorder.is_writer:
            return
        self.record.write_audit(told)
        self.record.write_text(AUDIT_PAGE, audit_page(told, f"Data of {self.record.name}"))
        self.recorder.log_table("audit", *audit_reasons_table(told))

    def _check_fingerprint(self) -> None:
        fingerprint = self.data.fingerprint
        known = self.record.manifest.data_fingerprint
        if known is not None and known != fingerprint:
            raise InstructLabError(
                "The data is not what it was when this run started, so going on would train something else",
                where=f"run {self.record.id}, data fingerprint {fingerprint[:12]} now, {known[:12]} then",
                do="bring the same files back, or start a new run",
            )
        if self.recorder.is_writer:
            inputs = [*self.data.inputs, *self.experiment.model.inputs(self.cache_path)]
            self.record.write_manifest(
                data_fingerprint=fingerprint,
                inputs=[{"name": i.name, "sha256": i.sha256, "bytes": i.bytes} for i in inputs],
            )

    def measure_before(self, resumed: bool) -> None:
        """Measure the untuned model and the plain baselines, once in the life of a run."""
        evaluation = self.experiment.evaluation
        if not self.recorder.is_writer:
            return
        if resumed and (known := self.record.read_results(BEFORE)) is not None:
            self.results = known
            return
        started = time.perf_counter()
        for split, chosen in self.chosen.items():
            pl.seed_everything(self.experiment.seed, workers=True, verbose=False)  # for sampled answers
            systems: dict[str, Measurement] = {}
            if evaluation.before:
                base = self.base
                systems[BEFORE] = untuned(
                    self.experiment, base, self.data, split, chosen, self.teacher, self.cache_path
                )
            if evaluation.baselines:
                systems |= baselines(self.experiment, self.data, split, chosen)
            self.results[split] = systems
        if evaluation.before and self.chosen:
            self.console.print(f"untuned model measured, or found measured, in {time.perf_counter() - started:.0f} s")
        self.record.write_results(BEFORE, self.results)

    def fit(self, resumed: bool) -> None:
        """Apply the tuning method and train, if it trains anything."""
        experiment, trainer = self.experiment, self.trainer
        if not experiment.tuning.trains:
            self._keep_untrained()
            return
        last = self.record.checkpoints_path / LAST_STATE
        step = _step_of(last) if resumed else 0
        if resumed and self.recorder.is_writer:
            self.record.truncate_metrics(after_step=step)
            self.console.print(f"going on after step {step}" if step else "no state was written yet: from the start")
        pl.seed_everything(experiment.seed, workers=True, verbose=False)
        loaded = experiment.tuning.apply(self.base.loaded)
        model = loaded.model
        if experiment.tuning.neftune_alpha is not None:
            add_embedding_noise(model, experiment.tuning.neftune_alpha)
        counts = count_parameters(model)
        told = f"model: {counts.total:,} parameters, {counts.trained:,} trained ({100 * counts.share:.2g} %)"
        self.console.print(told)
        if self.recorder.is_writer:
            self.record.write_manifest(parameters={"total": counts.total, "trained": counts.trained})
        steps = self.data.num_steps(trainer)
        answers = self._validation_answers()
        sources = self.data.sources("validation")
        module = TuningModule(experiment, loaded, self.recorder, steps, answers, sources, self.teacher)
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by its connectors
        chosen = sorted(self._callbacks(module), key=lambda callback: isinstance(callback, EvaluatedWeights))
        if self.on_validation is not None:
            chosen.append(StopWhenPruned(self.on_validation))
        callbacks[:] = [StepLog(module), RandomStates(), *callbacks, *chosen, OptimizerModes()]
        _bound_by_steps(trainer, steps)
        with self.costs.training():
            trainer.fit(module, datamodule=self.data, ckpt_path=str(last) if step else None, weights_only=True)
        self.num_steps, self.num_target_tokens = trainer.global_step, module.num_target_tokens
        if self.recorder.is_writer:
            keep_weights(module.save_weights, self.record.checkpoints_path, "last", step=trainer.global_step)
        self.base = None  # type: ignore[assignment]  # the tuning method changed it

    def _keep_untrained(self) -> None:
        """Where only prompts change: what is measured is the untuned model, at step 0."""
        self.num_steps = self.num_target_tokens = 0
        loaded = self.experiment.tuning.apply(self.base.loaded)
        if self.recorder.is_writer:
            self.record.write_manifest(parameters={"total": count_parameters(loaded.model).total, "trained": 0})
            save = functools.partial(self.experiment.tuning.save, loaded)
            keep_weights(save, self.record.checkpoints_path, "last", step=0)
        self.base = None  # type: ignore[assignment]

    def _callbacks(self, module: TuningModule) -> list[pl.Callback]:
        built = []
        for callback in self.experiment.callbacks.values():
            if isinstance(callback, Callback):
                built.append(callback.build(module, self.recorder))
            elif isinstance(callback, ExternalClass):
                built.append(callback.build(**mode_argument(callback, self.experiment)))
        return built

    def _validation_answers(self) -> Callable[[Any], dict[str, float]] | None:
        count = self.experiment.evaluation.during_examples
        chosen = sample(self.data, "validation", count) if count else []
        if not chosen or not self.recorder.is_writer:
            return None

        def answered(model: Any) -> dict[str, float]:
            predictions = answer(self.experiment, model, self.tokenizer, "validation", chosen)
            rows = answer_rows(self.experiment, predictions)
            return {
                name: summarize(self.experiment.active_metrics[name], rows[name], resamples=0).value for name in rows
            }

        return answered

    def measure_after(self) -> None:
        """Measure the tuned model as it will be used, write the results and show them."""
        objective = self.experiment.objective
        reads_untuned = objective.needs_reference and not objective.takes_reference_from_batch
        load = load_adapted if reads_untuned else load_tuned  # merged adapters cannot be switched off
        path = Path(self.record.path)
        tuned = load(
            self.experiment,
            path,
            self.cache_path,
            device=self.device,
            shared=self.shared,
            tokenizer=self.tokenizer,
        )
        for split, chosen in self.chosen.items():
            pl.seed_everything(self.experiment.seed, workers=True, verbose=False)  # for sampled answers
            measured = measure(
                self.experiment,
                tuned.model,
                tuned.tokenizer,
                self.data,
                split,
                chosen,
                self.teacher,
                self._prompted(chosen),
            )
            self.results.setdefault(split, {})[AFTER] = measured
        self.record.write_results(AFTER, {split: {AFTER: systems[AFTER]} for split, systems in self.results.items()})
        metrics = result.summary_metrics(self.experiment, self.results)
        seconds = self.record.seconds()
        predictions = result.prediction_rows(self.experiment, self.results)
        self.record.write_predictions(predictions)
        self.record.write_manifest(evaluated_step=tuned.step)
        summary = Summary("finished", seconds, self.num_target_tokens, **self.costs.told(path), metrics=metrics)
        self.record.write_summary(summary)
        self.recorder.summarize(final_values(summary))
        self.recorder.log_table("results", *results_table(summary))
        self.recorder.log_table("predictions", *predictions_table(predictions))
        self.recorder.log_weights(chosen_weights(self.experiment, path)[0])
        self.record.write_manifest(status="finished")
        out = _wide_console()
        result.show(out, self.experiment, self.results, metrics)
        out.print(f"{self.num_steps} steps, {self.num_target_tokens:,} target tokens, {seconds:.0f} s; ", end="")
        out.print(f"tuned weights: those of step {tuned.step}")
        out.print(f"record: {self.record.path}", soft_wrap=True)

    def _prompted(self, chosen: list[Conversation]) -> list[Conversation] | None:
        """The conversations as the tuned model is asked them; none where that is as they are."""
        prompted = self.experiment.tuning.prompts(chosen, self.data.conversations["train"])
        if prompted == chosen:
            return None
        return [train_last_answer(conversation) for conversation in prompted]


def _wide_console() -> Console:
    """Standard output; wide enough for the table where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, 150))


def _bound_by_steps(trainer: pl.Trainer, steps: int) -> None:
    """Where both bounds are set, leave the one that is reached first, in steps.

    With both, Lightning runs an empty epoch after a state that was written at the end of one, and so ends too early.
    """
    if trainer.max_steps >= 0 and trainer.max_epochs not in (None, -1):
        trainer.fit_loop.epoch_loop.max_steps = steps
        trainer.fit_loop.max_epochs = -1


def _step_of(checkpoint: Path) -> int:
    """The optimizer step that a state was written at; 0 where there is none.

    Raises:
        InstructLabError: the file is there and cannot be read.
    """
    if not checkpoint.is_file():
        return 0
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"])
    except Exception as error:
        raise InstructLabError(
            f"The checkpoint cannot be read: {error}", where=str(checkpoint), do="start a new run"
        ) from error
