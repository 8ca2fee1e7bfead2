"""The stages of a run: prepare data and model, evaluate the base model, train, and evaluate the tuned model.

Each stage is a function whose result the next stages use; `run.py` calls them in order. In a multi-device run, every
rank executes all stages: the ranks share training and evaluation, and only the first rank writes the record.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from instruct_lab.batch_limits import current_limits
from instruct_lab.callbacks.base import OnValidation
from instruct_lab.callbacks.kept_weights import keep_weights
from instruct_lab.callbacks.training_states import TrainingState, newest_state, set_aside_damaged_state
from instruct_lab.collector import usual_collections
from instruct_lab.data import Audit
from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation.base_model import measure_base_benchmarks, measure_base_model
from instruct_lab.evaluation.benchmarks import measure_benchmarks
from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.evaluation.judging import Judging, asks_judge
from instruct_lab.evaluation.measure import measure, measure_baselines, metric_values
from instruct_lab.evaluation.ranks import is_first_rank, wait_for_first_rank
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.settled import NEW_TOKENS, settle_answers
from instruct_lab.files import user_path
from instruct_lab.generation import context_length
from instruct_lab.model import LoadedModel
from instruct_lab.model.compiling import compile_layers
from instruct_lab.model.packing import check_packing
from instruct_lab.pages import audit_table
from instruct_lab.pages.audit_page import audit_page
from instruct_lab.pages.format import format_percent
from instruct_lab.progress import stage
from instruct_lab.records import Measurement, Results, RunRecord
from instruct_lab.records.schema import AFTER, AUDIT_PAGE, BEFORE
from instruct_lab.records.verdicts import write_verdicts
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.tracker.values import audit_reasons_table
from instruct_lab.training.batch_counts import check_sweep_metrics
from instruct_lab.training.costs import Costs
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.ending import StopRequest
from instruct_lab.training.module import TuningModule
from instruct_lab.training.overview import print_overview, print_prefix_obstacle
from instruct_lab.training.predicted import record_measured
from instruct_lab.training.results import write_results
from instruct_lab.training.trainer import bound_by_steps, set_callbacks
from instruct_lab.training.workspace import BaseModel, Workspace
from instruct_lab.tuning import count_parameters
from instruct_lab.tuning.noise import add_embedding_noise


@dataclasses.dataclass(frozen=True)
class Run:
    """The objects that every stage of a run uses.

    Args:
        experiment: the components of the run, built from its config.
        recorder: the recorder that writes to the run's record and the trackers.
        console: the console for messages, which prints only on the first rank.
        trainer: Lightning's trainer.
        workspace: the workspace that loads the tokenizer and the models.
        on_validation: function that may stop (prune) the run after a validation; `None`: the run is not pruned.
        is_resumed: whether the run continues from its last training state.
        stop_request: the handler of signals that ask the run to stop.
    """

    experiment: Experiment
    recorder: Recorder
    console: Console
    trainer: pl.Trainer
    workspace: Workspace
    on_validation: OnValidation | None
    is_resumed: bool
    stop_request: StopRequest

    @property
    def record(self) -> RunRecord:
        """The run's record."""
        return self.recorder.record


@dataclasses.dataclass(frozen=True)
class Prepared:
    """The data and models with which a run starts.

    Args:
        data: every split as conversations and examples.
        base: the base model, to which the tuning method is then applied.
        teacher: the second model that some objectives need; `None` for other objectives.
        evaluated: the examples to evaluate on, keyed by split.
    """

    data: InstructionData
    base: BaseModel
    teacher: Any
    evaluated: dict[str, EvaluatedExamples]


@dataclasses.dataclass(frozen=True)
class Trained:
    """The outcome of training, except the trained weights, which are in the run's record.

    Args:
        num_steps: optimizer steps since the start of the run.
        num_target_tokens: target tokens trained on since the start of the run.
        costs: seconds and peak memory of the training.
    """

    num_steps: int = 0
    num_target_tokens: int = 0
    costs: Costs = dataclasses.field(default_factory=Costs)


def prepare(run: Run) -> tuple[Run, Prepared]:
    """Prepare the data, load the base model, and set the config values that follow from the data.

    Returns:
        The run with these config values set, which the other stages use; and the prepared data and models.

    Raises:
        InstructLabError: the data or the model cannot be used, the data has changed since the run started, or the run
            would not measure a metric of its sweep.
    """
    experiment, workspace, audit = run.experiment, run.workspace, Audit()
    try:
        data = InstructionData(experiment, workspace.tokenizer, workspace.cache_path, audit)
        if experiment.tuning.trains:
            check_sweep_metrics(run.record.manifest.sweep, experiment, data.check_trainer(run.trainer, audit))
    finally:
        run.record.write_audit(audit.to_json())
    _report_audit(run, audit)
    _check_fingerprint(run, data)
    base = workspace.base(private=not experiment.tuning.shares_base)
    with stage("loading the second model of the objective"):
        teacher = experiment.objective.load_teacher(workspace.tokenizer, workspace.cache_path, workspace.device)
    if experiment.batching.packing is not None:
        with stage("checking that packed texts are kept apart"):
            for model in filter(None, [base.loaded.model, teacher]):
                check_packing(model)
    if experiment.objective.takes_reference_from_batch:
        data.add_reference(base.loaded)
    only_benchmarks = experiment.benchmarks and not experiment.active_metrics
    measured = [] if only_benchmarks else experiment.evaluation.splits
    splits: list[str] = [split for split in measured if data.examples.get(split)]
    max_examples, by_source = experiment.evaluation.max_examples, experiment.reports_by_source
    evaluated = {split: data.evaluated_examples(split, max_examples, by_source) for split in splits}
    for split in [split for split, examples in evaluated.items() if not len(examples)]:
        run.console.print(f"warning: no row of the {split} split has a good answer, so nothing is measured on it")
        del evaluated[split]
    print_overview(run, data, base.loaded, evaluated)
    return _settle_answers(run, data, base), Prepared(data, base, teacher, evaluated)


def _report_audit(run: Run, audit: Audit) -> None:
    """Show the audit of the data: as a table on the console, a page in the record, and a table in the trackers."""
    content = audit.to_json()
    audit_table.show(run.console, content)
    run.record.write_text(AUDIT_PAGE, audit_page(content, f"Data of {run.record.name}"))
    run.recorder.log_table("audit", *audit_reasons_table(content))


def _check_fingerprint(run: Run, data: InstructionData) -> None:
    known = run.record.manifest.data_fingerprint
    if known is not None and known != data.fingerprint:
        raise InstructLabError(
            "The data has changed since this run started, so the resumed run would train on other examples",
            where=f"run {run.record.id}, data fingerprint {data.fingerprint[:12]} now, {known[:12]} then",
            do="restore the same files, or start a new run",
        )
    inputs = [*data.inputs, *run.experiment.model.inputs(run.workspace.cache_path)]
    run.record.write_manifest(
        data_fingerprint=data.fingerprint,
        inputs=[{"name": i.name, "sha256": i.sha256, "bytes": i.bytes} for i in inputs],
    )


def _settle_answers(run: Run, data: InstructionData, base: BaseModel) -> Run:
    """If `generation.max_new_tokens` is null, set it from the data and the model, print it, and record it."""
    context = context_length(base.loaded.model)
    experiment, found = settle_answers(run.experiment, data.answer_lengths, context)
    if found is None:
        return run
    run.record.derive(NEW_TOKENS, found.value, found.origin)
    run.console.print(f"answers: up to {found.value:,} new tokens ({found.origin})", soft_wrap=True)
    return dataclasses.replace(run, experiment=experiment)


def measure_before(run: Run, prepared: Prepared) -> Results:
    """Evaluate the base model and the baselines of the data; a resumed run reads these results from its record."""
    if run.is_resumed and (recorded := run.record.read_results(BEFORE)) is not None:
        return recorded
    evaluation, setup = run.experiment.evaluation, run.experiment.evaluation_setup
    base, teacher, cache_path = prepared.base, prepared.teacher, run.workspace.cache_path
    baselines = getattr(run.experiment.data, "baselines", {})  # a field of data sets, not of every kind of data
    usual_collections()
    started = time.perf_counter()
    results: Results = {}
    for split, examples in prepared.evaluated.items():
        systems: dict[str, Measurement] = {}
        if evaluation.before:
            with stage("hashing the weights of the base model"):
                digest = base.digest()
            systems[BEFORE] = measure_base_model(setup, base.loaded, digest, examples, teacher, cache_path)
        if evaluation.baselines and is_first_rank():
            training = prepared.data.conversations["train"]
            with stage(f"evaluating the baselines on the {split} split"):
                systems |= measure_baselines(setup, baselines, training, examples)
        results[split] = systems
    if evaluation.before and setup.benchmarks:
        for name, measured in measure_base_benchmarks(setup, base.loaded, base.digest(), cache_path).items():
            results[name] = {BEFORE: measured}
    if evaluation.before and results:
        run.console.print(f"baseline (before training) evaluated in {time.perf_counter() - started:.0f} s")
    run.record.write_results(BEFORE, results)
    return results


def fit(run: Run, prepared: Prepared) -> Trained:
    """Apply the tuning method, train, and write the last weights to the record."""
    tuning, trainer, record = run.experiment.tuning, run.trainer, run.record
    state = _state_to_resume(run) if run.is_resumed and tuning.trains else TrainingState()
    pl.seed_everything(run.experiment.seed, workers=True, verbose=False)
    with stage("applying the tuning method"):
        loaded = tuning.apply(prepared.base.loaded)
    counts = count_parameters(loaded.model)
    record.write_manifest(parameters={"total": counts.total, "trained": counts.trained if tuning.trains else 0})
    if not tuning.trains:  # a method that only changes prompts
        _keep_last_weights(run, functools.partial(tuning.save, loaded), step=0)
        return Trained()
    run.console.print(
        f"model: {counts.total:,} parameters, {counts.trained:,} trained ({format_percent(counts.share)})"
    )
    if tuning.neftune_alpha is not None:
        add_embedding_noise(loaded.model, tuning.neftune_alpha)
    if run.experiment.model.compile:
        compile_layers(loaded.model)
    print_prefix_obstacle(run, loaded)
    num_steps = prepared.data.num_steps(trainer)
    record.write_manifest(num_steps=num_steps, steps_per_epoch=prepared.data.steps_per_epoch(trainer))
    module = TuningModule(
        run.experiment,
        loaded,
        run.recorder,
        num_steps,
        _validation_metrics(run, prepared, loaded),
        prepared.data.sources("validation"),
        prepared.teacher,
    )
    set_callbacks(trainer, run.experiment, module, run.recorder, run.on_validation, run.stop_request)
    bound_by_steps(trainer, num_steps)
    usual_collections()
    costs = Costs(module.positions)
    with costs.training():
        trainer.fit(module, datamodule=prepared.data, ckpt_path=state.path, weights_only=True)
    record_measured(run, costs)
    current_limits().step = trainer.global_step
    _keep_last_weights(run, module.weights_writer(is_first_rank()), step=trainer.global_step)
    return Trained(trainer.global_step, module.num_target_tokens, costs)


def _state_to_resume(run: Run) -> TrainingState:
    """Find the training state from which the run resumes, and delete the recorded metrics of later steps."""
    state, damages = newest_state(run.record.checkpoints_path)
    for damage in damages:
        run.console.print(f"warning: {damage} The run resumes from the state before it.", soft_wrap=True)
        run.record.log(damage)
    if damages:
        set_aside_damaged_state(run.record.checkpoints_path)
    run.record.truncate_metrics(state.metrics_size)
    step = state.step
    run.console.print(f"resuming after step {step}" if state.path else "no training state was written: from step 0")
    return state


def _keep_last_weights(run: Run, save: Callable[[Any], None], step: int) -> None:
    if is_first_rank():
        with stage("writing the last weights"):
            keep_weights(save, run.record.checkpoints_path, "last", step=step)
    wait_for_first_rank()


def _validation_metrics(run: Run, prepared: Prepared, loaded: LoadedModel) -> Callable[[], dict[str, float]] | None:
    """Create a function that measures the model's answers to a few validation examples.

    If there are no such examples, or the config asks for none, return `None`.
    """
    count = run.experiment.evaluation.during_examples
    if not count or not prepared.data.examples.get("validation"):
        return None
    setup = run.experiment.evaluation_setup.with_answer_metrics()
    examples = prepared.data.evaluated_examples("validation", count)
    if not len(examples):
        return None

    def evaluate() -> dict[str, float]:
        measured = measure(setup, loaded, examples)
        values = metric_values(setup.for_references(examples.references).metrics, measured, resamples=0)
        return {name: value.value for name, value in values.items()}

    return evaluate


def measure_after(run: Run, prepared: Prepared, before: Results, trained: Trained) -> None:
    """Evaluate the tuned model, and write and print all results of the run.

    The model is loaded from the weights that training has saved in the record.
    """
    objective, setup = run.experiment.objective, run.experiment.evaluation_setup
    reads_base = objective.needs_reference and not objective.takes_reference_from_batch
    tuned = run.workspace.tuned(run.record.path, merged=not reads_base)  # a merged adapter cannot be disabled
    results = {split: dict(systems) for split, systems in before.items()}
    for split, examples in prepared.evaluated.items():
        prompted = prepared.data.with_prompts(examples, run.experiment.tuning)
        with stage(f"evaluating the tuned model on the {split} split"):
            results.setdefault(split, {})[AFTER] = measure(setup, tuned.loaded, prompted, prepared.teacher)
    for name, measured in measure_benchmarks(setup, tuned.loaded):
        results.setdefault(name, {})[AFTER] = measured
    if is_first_rank():
        weights = tuned.weights
        del tuned  # to free its memory before a judge is loaded
        if asks_judge(setup.metrics):
            results = _judge(run, prepared, results)
        with stage("computing the results"):
            write_results(run.experiment, run.recorder, results, trained, weights)


def _judge(run: Run, prepared: Prepared, results: Results) -> Results:
    """Let the config's judge models compare the answers of the systems; return the results with the verdicts added.

    The verdicts, and the changed results of the base model and the baselines, are also written to the run's record.
    """
    runs_path, workspace = user_path(run.experiment.runs_path), run.workspace
    judging = Judging(run.experiment.evaluation_setup, runs_path, workspace.cache_path, workspace.device)
    judged = judging.add_verdicts(results, prepared.evaluated)
    write_verdicts(run.record.path, judged.verdicts)
    before = {
        split: {name: systems[name] for name in systems if name != AFTER} for split, systems in judged.results.items()
    }
    run.record.write_results(BEFORE, before)
    return judged.results
