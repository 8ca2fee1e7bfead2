"""The command `evaluate`: evaluate the model of a run again, or a model that no run has trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_permissions, print_references, print_warnings
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.errors import InstructLabError
from instruct_lab.files import user_path
from instruct_lab.progress import stage
from instruct_lab.terminal import wide_console, write_line

if TYPE_CHECKING:
    from instruct_lab.records import RunRecord
    from instruct_lab.records.evaluations import EvaluationFiles


@json_results
def evaluate(parsed: argparse.Namespace) -> Outcome:
    """Evaluate a run, the runs of a sweep, or a model, and write the results into the run records.

    A model that no run has trained gets a record of its own.
    """
    with stage("instruct-lab evaluate: reading the record"):
        from instruct_lab.records.evaluations import check_evaluation_name

        if parsed.name is not None:
            check_evaluation_name(parsed.name)
        records, is_sweep = _records(parsed)
    with stage("importing torch, transformers and Lightning"):
        from instruct_lab.training.evaluating import evaluate, prepare_job
        from instruct_lab.training.shared import SharedModels

    shared = SharedModels() if len(records) > 1 else None
    chosen = {"name": parsed.name, "checkpoint": parsed.checkpoint, "replaces": parsed.replace, "shared": shared}
    jobs = [prepare_job(one, parsed.overrides, **chosen) for one in records]  # all are checked before the first starts
    print_permissions(jobs[0].evaluated.experiment)
    console, failed = wide_console(), []
    for job in jobs:
        record = job.files.record
        if is_sweep:
            console.print(f"run {record.name}/{record.id}", soft_wrap=True)
        try:
            evaluate(job, console)
        except InstructLabError as error:
            if not is_sweep:
                raise
            write_line(f"run {record.id}: {error}", error=True)
            failed.append(record.id)
        if shared is not None:
            shared.end_run()
    if is_sweep:
        sweep, name = parsed.target, jobs[0].files.name
        write_line(f"compare the runs: instruct-lab compare {sweep} --on {name}", error=True)
    return Outcome(lambda: [_to_json(job.files) for job in jobs], 1 if failed else 0)


def _records(parsed: argparse.Namespace) -> tuple[list[RunRecord], bool]:
    """Return the records whose models are to be evaluated, and whether the command line names a sweep."""
    from instruct_lab.records import find_run
    from instruct_lab.sweep.record import sweep_to_resume
    from instruct_lab.training.model_records import model_reference

    reference = model_reference(parsed.target)
    if reference is not None:
        return [_record_of_model(parsed, reference)], False
    sweep = sweep_to_resume(Path(parsed.runs), parsed.target)
    if sweep is None:
        try:
            return [find_run(Path(parsed.runs), parsed.target)], False
        except InstructLabError as error:
            if user_path(parsed.target).exists():  # not a model either: examining it gives the reason
                return [_record_of_model(parsed, f"path:{parsed.target}")], False
            do = f"{error.do}; a model is named path:DIR, path:FILE.gguf or hub:ORG/NAME"
            raise InstructLabError(error.what, where=error.where, do=do) from error
    finished = sweep.finished_runs()
    if not finished:
        raise InstructLabError(
            "The sweep has no finished run to evaluate",
            where=str(sweep.path),
            do=f"finish it first: instruct-lab resume {sweep.id}",
        )
    if num_left := len(sweep.runs()) - len(finished):
        write_line(f"{num_left} runs of the sweep are not finished and not evaluated", error=True)
    return finished, True


def _record_of_model(parsed: argparse.Namespace, reference: str) -> RunRecord:
    """Return the record of a model that no run has trained; create it if it does not exist."""
    from instruct_lab.config.quoting import quote_value
    from instruct_lab.experiment.check import check
    from instruct_lab.experiment.evaluated import parse_measured
    from instruct_lab.training.model_records import UNCHANGED, record_of_model

    parse_measured(parsed.overrides)
    folder = f"runs_path={quote_value(parsed.runs)}"
    checked = check([f"model={reference}", *UNCHANGED, folder, *parsed.overrides]).or_refuse()
    print_warnings(checked.warnings)
    print_references(checked.composition.choices, error=True)
    return record_of_model(reference, checked)


def _to_json(found: EvaluationFiles) -> dict[str, Any]:
    from instruct_lab.files import to_plain

    summary = found.summary
    entries = {"run": found.record.id, "name": found.name, "path": str(found.path)}
    return {**entries, "metrics": None if summary is None else to_plain(summary.metrics)}


def add_commands(add: AddCommand) -> None:
    """Add `evaluate` to the command line."""
    parser = add(
        "evaluate",
        evaluate,
        "evaluate a run, a sweep or a model on its own or other data, and write the results into its record",
        "instruct-lab evaluate latest",
        "instruct-lab evaluate latest data=stdlib_functions metrics=text evaluation.max_examples=200",
        "instruct-lab evaluate path:my_model data=path:questions.jsonl",
        json=True,
        code=True,
    )
    target = (
        "a run or a sweep (folder, id, its beginning or end, or `latest`), a model folder, FILE.gguf, or hub:ORG/NAME"
    )
    parser.add_argument("target", metavar="TARGET", help=target)
    chosen = "data=, metrics=, generation=, evaluation.KEY=, ...: what is measured (default: as in the run)"
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help=chosen)
    named = "name of the evaluation in the record (default: the choices, or `own`)"
    parser.add_argument("--name", metavar="NAME", help=named)
    again = "replace an evaluation of the same name that has other settings, data or weights"
    parser.add_argument("--replace", action="store_true", help=again)
    arguments.add_checkpoint(parser)
    arguments.add_runs_path(parser)
