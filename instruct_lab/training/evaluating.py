"""Evaluation of a recorded run's model after the run, on its data or other data; the record receives the results."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from instruct_lab import files
from instruct_lab.batch_limits import BatchLimits, apply_limits
from instruct_lab.cache import describe
from instruct_lab.callbacks.kept_weights import KeptWeights
from instruct_lab.data import Audit
from instruct_lab.data.remaining import WARNINGS, describe_losses
from instruct_lab.errors import InstructLabError, started
from instruct_lab.evaluation import result
from instruct_lab.evaluation.base_model import measure_base_benchmarks, measure_base_model
from instruct_lab.evaluation.benchmarks import measure_benchmarks
from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.evaluation.judging import Judging
from instruct_lab.evaluation.measure import measure, measure_baselines
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.evaluated import Evaluated, build_evaluated
from instruct_lab.experiment.recorded import build_recorded
from instruct_lab.experiment.settled import settle_answers
from instruct_lab.files import user_path
from instruct_lab.generation import context_length
from instruct_lab.generation.journal import AnswerJournal
from instruct_lab.model import LoadedModel
from instruct_lab.progress import stage
from instruct_lab.records import Results, RunRecord, Summary
from instruct_lab.records.environment import package_versions, source_sha256
from instruct_lab.records.evaluations import EvaluationFiles, Origin, check_evaluation_name, default_name
from instruct_lab.records.folder import LOCK
from instruct_lab.records.identity import NOT_SCIENCE_BATCHING
from instruct_lab.records.schema import AFTER, BEFORE
from instruct_lab.records.verdicts import write_verdicts
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.ending import memory_errors
from instruct_lab.training.processes import on_one_device
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.trainer import build_trainer
from instruct_lab.training.workspace import BaseModel, Workspace, evaluated_weights

if TYPE_CHECKING:
    from instruct_lab.training.shared import SharedModels


@dataclasses.dataclass(frozen=True)
class EvaluationJob:
    """One evaluation of the model of a recorded run.

    Args:
        files: the paths of the evaluation's files in the run's record.
        run: the configuration of the run as it was trained, which is needed to load its model.
        evaluated: the configuration for the evaluation: that of the run, changed by `overrides`.
        overrides: the overrides of the evaluation, as typed.
        checkpoint: the weights to evaluate, `best` or `last`; `None`: those that the run was evaluated with at its end.
        replaces: whether to replace an earlier evaluation of this name that had other settings, data, weights or
            versions of the packages.
        shared: models that earlier evaluations of this process loaded; `None`: the models are read from disk.
    """

    files: EvaluationFiles
    run: Experiment
    evaluated: Evaluated
    overrides: list[str]
    checkpoint: str | None = None
    replaces: bool = False
    shared: SharedModels | None = None


def prepare_job(
    record: RunRecord,
    overrides: Sequence[str],
    *,
    name: str | None = None,
    checkpoint: str | None = None,
    replaces: bool = False,
    shared: SharedModels | None = None,
) -> EvaluationJob:
    """Check the overrides and the name of an evaluation, and return the job that `evaluate` runs.

    Args:
        record: the record of the run.
        overrides: overrides of the run's config that choose what to measure.
        name: name of the evaluation; `None`: it is made from the overrides, or `own` without any overrides.
        checkpoint: the weights to evaluate, `best` or `last`; `None`: those that the run was evaluated with at its end.
        replaces: whether to replace an earlier evaluation of this name that had other settings, data, weights or
            versions of the packages.
        shared: models that earlier evaluations of this process loaded; `None`: the models are read from disk.

    Raises:
        ConfigError: an override is wrong, or the model cannot be evaluated with it.
        InstructLabError: the name is not valid, or the run's config cannot be built.
    """
    run, _ = build_recorded(record, uses_trackers=False, uses_data=False)
    evaluated = build_evaluated(record, list(overrides))
    name = default_name(evaluated.labels) if name is None else check_evaluation_name(name)
    return EvaluationJob(EvaluationFiles(record, name), run, evaluated, list(overrides), checkpoint, replaces, shared)


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """The data, the weights and the models of an evaluation, before anything is measured."""

    experiment: Experiment
    workspace: Workspace
    weights: KeptWeights
    data: InstructionData | None  # `None` if only benchmarks are measured, which need no rows
    examples: dict[str, EvaluatedExamples]
    demonstrations: Any
    audit: Audit


def evaluate(job: EvaluationJob, console: Console) -> bool:
    """Evaluate the model, write the results into the record of the run, and print them.

    An evaluation that was killed continues after its last batch of answers, and has the same results to the last bit.
    If the record already holds results of this evaluation with the current settings, data and weights, nothing is
    measured, unless versions have changed and the job replaces earlier evaluations.

    Args:
        job: the evaluation, as `prepare_job` returned it.
        console: the console on which the results are printed.

    Returns:
        Whether anything was measured.

    Raises:
        InstructLabError: no example can be measured; the run has no weights of the wanted checkpoint; or the record has
            an evaluation of this name with other settings, data or weights, which the job does not replace.
    """
    quiet_libraries()
    with files.disk_errors(job.files.folder):
        job.files.folder.mkdir(parents=True, exist_ok=True)
    locked = files.lock(job.files.folder / LOCK, "writing this evaluation")
    with locked, started(), memory_errors(job.run), apply_limits(BatchLimits()):
        prepared = _prepare(job)
        fingerprint = _fingerprint(prepared)
        versions = {"source": source_sha256(), **package_versions()}
        known = job.files.origin
        is_known = known is not None and known.fingerprint == fingerprint
        changed = known.changed_versions(versions) if known is not None else []
        if is_known and not (changed and job.replaces):
            console.print(f"measured before: {job.files.path}", soft_wrap=True)
            if changed:
                found = f"with other versions of {', '.join(changed)}; --replace measures again"
                console.print(f"warning: it was measured {found}", soft_wrap=True)
            _show(console, prepared, job.files.read_results(), job.files.summary or Summary())
            return False
        if known is not None and not is_known and not job.replaces:
            raise InstructLabError(
                f"The record has an evaluation {job.files.name!r} with other settings, data or weights",
                where=str(job.files.path),
                do="name this one with --name NAME, or replace the other one with --replace",
            )
        began = time.perf_counter()
        results = _measure(job, prepared, _hash([fingerprint, versions]), console)
        device, cache_path = prepared.workspace.device, prepared.workspace.cache_path
        runs_path = user_path(prepared.experiment.runs_path)
        judging = Judging(prepared.experiment.evaluation_setup, runs_path, cache_path, device)
        judged = judging.add_verdicts(results, prepared.examples)
        results = judged.results
        write_verdicts(job.files.folder, judged.verdicts)
        setup = dataclasses.replace(prepared.experiment.evaluation_setup, selected_by=prepared.weights.monitor)
        with stage("computing the results"):
            metrics = result.summary_metrics(setup, results)
        summary = Summary("finished", time.perf_counter() - began, metrics=metrics)
        lines = result.prediction_lines(setup, results)
        origin = Origin(job.overrides, str(prepared.weights), prepared.weights.step, fingerprint, versions)
        job.files.write(summary, origin, results, lines, job.evaluated.config)
        _show(console, prepared, results, summary)
        console.print(f"evaluated checkpoint: {prepared.weights}")
        console.print(f"evaluation {job.files.name}: {job.files.path}", soft_wrap=True)
    return True


def _prepare(job: EvaluationJob) -> _Prepared:
    experiment, record = job.evaluated.experiment, job.files.record
    weights = evaluated_weights(job.run, record.path, job.checkpoint)
    device = build_trainer(on_one_device(job.run), record.path).strategy.root_device
    workspace = Workspace(job.run, device, job.shared)
    audit = Audit()
    if experiment.benchmarks and not experiment.active_metrics:
        return _Prepared(experiment, workspace, weights, None, {}, None, audit)
    data = InstructionData(experiment, workspace.tokenizer, workspace.cache_path, audit)
    max_examples, by_source = experiment.evaluation.max_examples, experiment.reports_by_source
    splits: list[str] = [split for split in experiment.evaluation.splits if data.examples.get(split)]
    examples = {split: data.evaluated_examples(split, max_examples, by_source) for split in splits}
    usable = {split: chosen for split, chosen in examples.items() if len(chosen)}
    if not usable:
        raise _nothing_to_measure(experiment, examples, data, audit)
    demonstrations = data.conversations["train"]
    if not job.run.tuning.trains and job.evaluated.changes_data:  # worked examples are those of the run
        own = InstructionData(job.run, workspace.tokenizer, workspace.cache_path, Audit())
        demonstrations = own.conversations["train"]
    return _Prepared(experiment, workspace, weights, data, usable, demonstrations, audit)


def _nothing_to_measure(
    experiment: Experiment, examples: dict[str, EvaluatedExamples], data: InstructionData, audit: Audit
) -> InstructLabError:
    """Return the error to raise if the data has no row that can be measured."""
    splits = experiment.evaluation.splits
    losses = [f"{split}: {found}" for split in splits if (found := describe_losses(audit, split))]
    if examples or losses or any(len(data.conversations.get(split, ())) for split in splits):
        dropped = f" (dropped: {'; '.join(losses)})" if losses else ""
        return InstructLabError(
            f"No row of the {' and '.join(splits)} split has a reference answer that can be measured{dropped}",
            where="data",
            do="choose rows with an answer, or answer prompts with `instruct-lab generate`",
        )
    return InstructLabError(
        f"The data has no held-out rows: its {' and '.join(splits) or 'no'} split is empty",
        where="evaluation.splits",
        do="raise data.split.test or data.split.validation, give files of held-out rows, or choose other splits",
    )


def _fingerprint(prepared: _Prepared) -> str:
    """Return a hash of everything that determines the evaluation's results: its settings, data and weights."""
    setup, evaluation = prepared.experiment.evaluation_setup, prepared.experiment.evaluation
    parts = ("model", "template", "batching", "objective", "generation", "metrics")
    content: dict[str, Any] = {
        "settings": {name: describe(getattr(setup, name), NOT_SCIENCE_BATCHING) for name in parts},
        "seed": [setup.seed, setup.by_source, evaluation.before, evaluation.baselines],
        "data": None if prepared.data is None else prepared.data.fingerprint,
        "examples": {
            split: [[one.id, one.answers] for one in found.conversations] for split, found in prepared.examples.items()
        },
        "weights": [prepared.weights.name, prepared.weights.step],
    }
    if setup.benchmarks:
        content["benchmarks"] = [[describe(one), one.fingerprint()] for one in setup.benchmarks.values()]
    return _hash(content)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _measure(job: EvaluationJob, prepared: _Prepared, fingerprint: str, console: Console) -> Results:
    """Measure the base model, the baselines and the tuned model on every split.

    The measurements that an interrupted evaluation saved are used again if they have the same `fingerprint`, a hash of
    settings, data, weights, code and package versions.
    """
    results, experiment = job.files.read_unfinished(fingerprint), prepared.experiment
    num_known = sum(map(len, results.values()))
    if num_known:
        console.print(f"going on with this evaluation: {num_known} measurements are known", soft_wrap=True)
    objective, workspace, evaluation = experiment.objective, prepared.workspace, experiment.evaluation
    own, data = experiment.evaluation_setup, prepared.data
    teacher = objective.load_teacher(workspace.tokenizer, workspace.cache_path, workspace.device)
    missing = [split for split in prepared.examples if BEFORE not in results.get(split, {})]
    benchmarks_missing = own.benchmarks and not any(
        BEFORE in systems for name, systems in results.items() if name not in prepared.examples
    )
    base: BaseModel | None = None
    examples = prepared.examples
    reads_reference = objective.takes_reference_from_batch and data is not None
    if reads_reference or (evaluation.before and (missing or benchmarks_missing)):
        base = workspace.base(private=False)
    if base is not None and reads_reference and data is not None:
        data.add_reference(base.loaded)
        max_examples, by_source = evaluation.max_examples, experiment.reports_by_source
        examples = {split: data.evaluated_examples(split, max_examples, by_source) for split in examples}
    if base is not None and evaluation.before:
        with stage("hashing the weights of the base model"):
            digest = base.digest()
        settled = _settle_answers(prepared, base.loaded)
        for split in missing:
            setup = _keeping_answers(job, settled, split, BEFORE, fingerprint)
            measured = measure_base_model(setup, base.loaded, digest, examples[split], teacher, workspace.cache_path)
            results.setdefault(split, {})[BEFORE] = measured
            job.files.write_unfinished(fingerprint, results)
        if benchmarks_missing:
            found = measure_base_benchmarks(own, base.loaded, digest, workspace.cache_path)
            results |= {name: {BEFORE: measured} for name, measured in found.items()}
            job.files.write_unfinished(fingerprint, results)
    base = None  # to free its memory before the tuned model is loaded
    baselines = getattr(experiment.data, "baselines", {}) if evaluation.baselines else {}
    for split, chosen in examples.items():
        training = data.conversations["train"] if data is not None else []
        results.setdefault(split, {}).update(measure_baselines(own, baselines, training, chosen))
    missing = [split for split in examples if AFTER not in results[split]]
    if missing or own.benchmarks:
        reads_base = objective.needs_reference and not objective.takes_reference_from_batch
        tuned = workspace.tuned(job.files.record.path, job.checkpoint, merged=not reads_base).loaded
        settled = _settle_answers(prepared, tuned)
        for split in missing:
            prompted = examples[split]
            if data is not None:
                prompted = data.with_prompts(prompted, job.run.tuning, prepared.demonstrations)
            setup = _keeping_answers(job, settled, split, AFTER, fingerprint)
            with stage(f"evaluating the model on the {split} split"):
                results[split][AFTER] = measure(setup, tuned, prompted, teacher)
            job.files.write_unfinished(fingerprint, results)
        known = [name for name, systems in results.items() if AFTER in systems]
        for name, measured in measure_benchmarks(own, tuned, known):
            results.setdefault(name, {})[AFTER] = measured
            job.files.write_unfinished(fingerprint, results)
    return results


def _settle_answers(prepared: _Prepared, loaded: LoadedModel) -> Experiment:
    """Return the experiment with a maximum answer length; if its config sets none, the data and the model decide."""
    if prepared.data is None:
        return prepared.experiment
    return settle_answers(prepared.experiment, prepared.data.answer_lengths, context_length(loaded.model))[0]


def _keeping_answers(
    job: EvaluationJob, experiment: Experiment, split: str, system: str, fingerprint: str
) -> EvaluationSetup:
    """Return the evaluation's settings, in which `journal` is a file that keeps each answer as soon as it is generated.

    After an interruption, the evaluation reads the answers from this file.
    """
    path = job.files.unfinished_path(f"-{split}-{system}.jsonl")
    return dataclasses.replace(experiment.evaluation_setup, journal=AnswerJournal(path, fingerprint))


def _show(console: Console, prepared: _Prepared, results: Results, summary: Summary) -> None:
    for warning in prepared.audit.facts.get(WARNINGS, []):
        console.print(f"warning: {warning}", soft_wrap=True)
    result.show(console, prepared.experiment.evaluation_setup, results, summary.metrics)
