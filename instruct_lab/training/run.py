"""Starting and resuming of runs, with their records, locks and trackers; the stages of a run are called in order."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from instruct_lab.training import lightning  # noqa: F401  # before other modules import Lightning

# isort: split

from instruct_lab import files, library_warnings
from instruct_lab.batch_limits import BatchLimits, Reduction, apply_limits
from instruct_lab.callbacks.base import OnValidation
from instruct_lab.config import ExternalClass
from instruct_lab.config.permitted import permitted
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.recorded import build_recorded
from instruct_lab.experiment.rules.devices import refuse_devices
from instruct_lab.files import user_path
from instruct_lab.launch import external_launch, is_first_process
from instruct_lab.progress import ensure_reporting
from instruct_lab.records import ReadOnlyRecord, RunRecord
from instruct_lab.records.entries import known_entries
from instruct_lab.records.folder import LOCK
from instruct_lab.records.identity import config_hash
from instruct_lab.terminal import open_console, write_line
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.tracker.start import start_trackers
from instruct_lab.training.ending import StopRequest, memory_errors, raise_on_signals, record_ending
from instruct_lab.training.names import RUN_PATH_VARIABLE, run_name
from instruct_lab.training.processes import (
    check_launch,
    divide_steps,
    join_processes,
    leave_processes,
    stop_other_ranks,
    value_of_first_process,
)
from instruct_lab.training.quiet import quiet_libraries
from instruct_lab.training.resuming import continue_record
from instruct_lab.training.stages import Run, fit, measure_after, measure_before, prepare
from instruct_lab.training.trainer import build_trainer
from instruct_lab.training.workspace import Workspace

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from instruct_lab.training.shared import SharedModels


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Values that the caller of a run, such as a sweep, sets for this run only.

    Args:
        name: name of the run; `None`: the name that the config gives.
        run_id: id of the run; `None`: a new id.
        facts: additional fields of the run's manifest.
        shared: models that earlier runs of this process loaded; `None`: the run loads its own models.
        on_validation: function that may stop (prune) the run after a validation; `None`: the run is not pruned.
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
    """Train a model, evaluate it before and after training, and write everything to a new record.

    Args:
        experiment: the components of the run, built from the checked config.
        config: the resolved config, which is written to the record and can be run again.
        choices: the chosen option of each group.
        overrides: the overrides as typed.
        context: values that the caller, such as a sweep, sets for this run only.

    Returns:
        The record of the finished run.

    Raises:
        InstructLabError: this machine lacks the devices, so that no record is written; or the run cannot use its input,
            and its record then has the status `failed`.
        Pruned: `context.on_validation` stopped the run; the record has the status `pruned`.
    """
    _check_devices(experiment.trainer)
    quiet_libraries()
    with raise_on_signals() as request:
        request.hold()  # until the ending of the run is recorded whatever happens
        record = _new_record(experiment, config, choices, overrides, context)
        record.write_manifest(choices=choices, seeds={"seed": experiment.seed}, config_hash=config_hash(config))
        record.write_manifest(runs_remote_code=experiment.model.runs_remote_code)
        _run(experiment, config, choices, record, context, request, is_resumed=False)
    return record


def resume(
    experiment: Experiment,
    config: dict[str, Any],
    record: RunRecord,
    context: RunContext = RunContext(),
    limits: Mapping[str, int] | None = None,
    force: bool = False,
    devices: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Continue a run from its last training state, with the same steps as in a run that was never stopped.

    Args:
        experiment: the components of the run, built from the recorded config.
        config: the recorded config.
        record: the record of the run.
        context: values that the caller, such as a sweep, sets for this run only.
        limits: new values of `trainer.max_epochs` and `trainer.max_steps`, which make the run longer.
        force: whether to continue even if something has changed that affects the results.
        devices: new values of the trainer's arguments that choose the devices.

    Returns:
        The record of the finished run.

    Raises:
        InstructLabError: the run is finished and `limits` is empty, something that affects the results has changed
            since it started and `force` is false, or this machine does not have the devices.
    """

    def change() -> Path:
        changed.append(continue_record(experiment, config, record, limits or {}, force, devices or {}))
        return record.path

    changed: list[tuple[Experiment, dict[str, Any], list[str]]] = []
    placed = dataclasses.replace(experiment.trainer, arguments={**experiment.trainer.arguments, **(devices or {})})
    _check_devices(placed)
    if external_launch() is not None:
        value_of_first_process(
            change, lambda: build_trainer(dataclasses.replace(experiment, trainer=placed), record.path)
        )
    elif is_first_process():
        change()
    if changed:
        experiment, config, notes = changed[0]
        for note in notes:
            write_line(note, error=True)
    elif external_launch() is not None:
        experiment, config = build_recorded(RunRecord.open(record.path))
    os.environ[RUN_PATH_VARIABLE] = str(record.path)
    own = record if is_first_process() else ReadOnlyRecord.open(record.path)
    quiet_libraries()
    with raise_on_signals() as request:
        request.hold()
        _run(experiment, config, record.manifest.choices, own, context, request, is_resumed=True)
    return record


def _check_devices(trainer: ExternalClass) -> None:
    """Raise an error if this machine lacks the trainer's devices, before a record is written or changed."""
    refuse_devices(trainer)
    check_launch(trainer.arguments)


def _new_record(
    experiment: Experiment, config: dict[str, Any], choices: dict[str, Any], overrides: list[str], context: RunContext
) -> RunRecord:
    def create() -> RunRecord:
        name = context.name or run_name(experiment.name, choices)
        runs_path = user_path(experiment.runs_path)
        return RunRecord.create(runs_path, name, config, overrides, run_id=context.run_id, **context.facts)

    if external_launch() is not None:
        created: list[RunRecord] = []

        def create_here() -> Path:
            created.append(create())
            return created[0].path

        path = value_of_first_process(create_here, lambda: build_trainer(experiment, user_path(experiment.runs_path)))
        return created[0] if created else ReadOnlyRecord.open(path)
    if not is_first_process():
        if RUN_PATH_VARIABLE not in os.environ:
            raise InstructLabError(
                "LOCAL_RANK is set, but no first process has created a run record",
                where="the environment",
                do="start one process with trainer.devices=N, which starts the others itself, or use torchrun or srun",
            )
        return ReadOnlyRecord.open(Path(os.environ[RUN_PATH_VARIABLE]))
    record = create()
    os.environ[RUN_PATH_VARIABLE] = str(record.path)
    return record


def _run(
    experiment: Experiment,
    config: dict[str, Any],
    choices: Any,
    record: RunRecord,
    context: RunContext,
    request: StopRequest,
    *,
    is_resumed: bool,
) -> None:
    recorder = Recorder(record, {})
    console = open_console(stderr=True, quiet=not record.is_writer)
    console.print(f"run {record.id} in {record.path}", soft_wrap=True)
    with (
        contextlib.ExitStack() as after,
        memory_errors(experiment),
        _lock(record),
        record_ending(recorder, request),
        library_warnings.logged(record.log),
        apply_limits(_batch_limits(record, console)),
        ensure_reporting(),
    ):
        request.release()
        request.raise_if_waiting()
        record.write_manifest(status="running")
        _report_permissions(experiment, record, console)
        if record.is_writer:
            _start_trackers(experiment, config, choices, recorder, console)
        trainer = build_trainer(experiment, record.path)
        experiment = _divided(experiment, record, trainer, console)
        workspace = Workspace(experiment, trainer.strategy.root_device, context.shared)
        run = Run(experiment, recorder, console, trainer, workspace, context.on_validation, is_resumed, request)
        run, prepared = prepare(run)
        after.push(lambda error, *_: stop_other_ranks(trainer) if error else None)  # runs after the record is written
        after.callback(leave_processes)
        join_processes(trainer)
        before = measure_before(run, prepared)
        trained = fit(run, prepared)
        measure_after(run, prepared, before, trained)


def _divided(experiment: Experiment, record: RunRecord, trainer: pl.Trainer, console: Console) -> Experiment:
    """Divide each step's examples over the devices that are used now.

    If the run started with another number or type of devices, the difference is printed and recorded.

    Returns:
        The experiment, with the batch size that each of these devices now uses.
    """
    manifest, now, kind = record.manifest, trainer.world_size, trainer.strategy.root_device.type
    divided = divide_steps(experiment, manifest.num_devices, now)
    differences = []
    if manifest.device not in ("", kind):
        differences.append(f"the run trains on {kind} instead of {manifest.device}, which can change the last digits")
    if divided is not experiment:
        size = divided.batching.batch_size
        differences.append(
            f"the run trains on {now} devices instead of {manifest.num_devices}, with batches of {size} on each: "
            "each step has the same examples"
        )
    for text in differences:
        console.print(text, soft_wrap=True)
        record.log(text)
    record.write_manifest(num_devices=manifest.num_devices or now, device=kind)
    return divided


def _report_permissions(experiment: Experiment, record: RunRecord, console: Console) -> None:
    """Print and record each action of the run that needs the user's permission."""
    uses = list(map(str, permitted(experiment)))
    for use in uses:
        console.print(use, soft_wrap=True)
    record.write_manifest(permissions=uses)


def _batch_limits(record: RunRecord, console: Console) -> BatchLimits:
    """Create the limits on batch sizes, which include the reductions that the run's record already lists.

    Each later reduction is printed and added to the record.
    """
    recorded = [Reduction(**known_entries(Reduction, entry)) for entry in record.manifest.reduced_batches]

    def report(reduction: Reduction) -> None:
        console.print(f"warning: {reduction}", soft_wrap=True)
        record.log(str(reduction))
        entries = [*record.manifest.reduced_batches, dataclasses.asdict(reduction)]
        record.write_manifest(reduced_batches=entries)

    return BatchLimits(recorded, report)


def _lock(record: RunRecord) -> contextlib.AbstractContextManager[None]:
    """Lock the record, so that no other process writes to it."""
    return files.lock(record.path / LOCK, "writing this run") if record.is_writer else contextlib.nullcontext()


def _start_trackers(
    experiment: Experiment, config: dict[str, Any], choices: Any, recorder: Recorder, console: Console
) -> None:
    recorder.sessions |= start_trackers(experiment.tracker, recorder.record, config, choices)
    for name, session in recorder.sessions.items():
        if where := session.where():
            console.print(f"tracker {name}: {where}", soft_wrap=True)
