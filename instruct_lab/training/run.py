"""Start a run or go on with one: its record, its lock, its trackers, and its ending."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from instruct_lab import files
from instruct_lab.callbacks.base import OnValidation
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.records import ReadOnlyRecord, RunRecord
from instruct_lab.records.folder import LOCK
from instruct_lab.records.identity import config_hash
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.tracker.start import start_trackers
from instruct_lab.training.ending import recorded_ending, signals_raised
from instruct_lab.training.names import RUN_PATH_VARIABLE, run_name
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.stages import Stages

if TYPE_CHECKING:
    from instruct_lab.training.shared import SharedModels


@dataclasses.dataclass(frozen=True)
class RunContext:
    """How a run relates to its sweep.

    Args:
        name: folder of the record; None: as the config says.
        run_id: the record's own folder; None: a new one.
        facts: further entries of the manifest.
        shared: models that earlier runs of this process loaded; None: the run loads its own.
        on_validation: may stop the run after a validation; None: the run is not pruned.
    """

    name: str | None = None
    run_id: str | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    shared: SharedModels | None = None
    on_validation: OnValidation | None = None


def train(
    experiment: Experiment,
    config: dict[str, Any],
    choices: dict[str, Any],
    overrides: list[str],
    context: RunContext = RunContext(),
) -> RunRecord:
    """Train, measure and record.

    Args:
        experiment: the checked configuration.
        config: the same as plain containers, resolved; written to the record, replayable as it is.
        choices: the option of each group.
        overrides: what the user typed.
        context: how the run relates to its sweep.

    Raises:
        InstructLabError: bad input; the record says `failed`.
        Pruned: `context.on_validation` stopped the run; the record says `pruned`.
    """
    record = _own_record(experiment, config, choices, overrides, context)
    if _is_first_process():
        record.write_manifest(choices=choices, seeds={"seed": experiment.seed}, config_hash=config_hash(config))
        record.write_manifest(runs_remote_code=experiment.model.runs_remote_code)
    _run(experiment, config, choices, record, context, resumed=False)
    return record


def resume(
    experiment: Experiment, config: dict[str, Any], record: RunRecord, context: RunContext = RunContext()
) -> RunRecord:
    """Go on with a run from its last written state; the same steps follow as if it had never stopped."""
    if record.manifest.status == "finished":
        raise InstructLabError(f"Run {record.id} is finished", do="start a new run with `instruct-lab train`")
    os.environ[RUN_PATH_VARIABLE] = str(record.path)
    own = record if _is_first_process() else ReadOnlyRecord.open(record.path)
    _run(experiment, config, record.manifest.choices, own, context, resumed=True)
    return record


def _is_first_process() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _own_record(
    experiment: Experiment, config: dict[str, Any], choices: dict[str, Any], overrides: list[str], context: RunContext
) -> RunRecord:
    if not _is_first_process():
        if RUN_PATH_VARIABLE not in os.environ:
            raise InstructLabError(
                "LOCAL_RANK is set, and no first process has opened a record for this one",
                where="the environment",
                do="start one process with trainer.devices=N: it starts the others itself",
            )
        return ReadOnlyRecord.open(Path(os.environ[RUN_PATH_VARIABLE]))
    name = context.name or run_name(experiment.name, choices)
    runs_path = Path(experiment.runs_path).expanduser()
    record = RunRecord.create(runs_path, name, config, overrides, run_id=context.run_id, **context.facts)
    os.environ[RUN_PATH_VARIABLE] = str(record.path)
    return record


def _run(
    experiment: Experiment,
    config: dict[str, Any],
    choices: Any,
    record: RunRecord,
    context: RunContext,
    *,
    resumed: bool,
) -> None:
    quiet_libraries()
    recorder = Recorder(record, {})
    console = Console(stderr=True, quiet=not recorder.is_writer, highlight=False)
    console.print(f"run {record.id} in {record.path}", soft_wrap=True)
    with _sole_writer(record), signals_raised(), recorded_ending(recorder):
        record.write_manifest(status="running")
        _start_trackers(experiment, config, choices, recorder, console)
        run = Stages(experiment, record, recorder, console, context.shared, context.on_validation)
        run.prepare()
        run.measure_before(resumed)
        run.fit(resumed)
        if recorder.is_writer:
            run.measure_after()


def _sole_writer(record: RunRecord) -> contextlib.AbstractContextManager[None]:
    """The record's lock, held by the process that writes."""
    if not _is_first_process():
        return contextlib.nullcontext()
    return files.lock(Path(record.path) / LOCK, "writing this run")


def _start_trackers(
    experiment: Experiment, config: dict[str, Any], choices: Any, recorder: Recorder, console: Console
) -> None:
    if not recorder.is_writer:
        return
    recorder.sessions |= start_trackers(experiment.tracker, recorder.record, config, choices)
    for name, session in recorder.sessions.items():
        if where := session.where():
            console.print(f"tracker {name}: {where}", soft_wrap=True)
