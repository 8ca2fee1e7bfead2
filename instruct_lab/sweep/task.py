"""One trial: from its overrides to its record, in whatever process a launcher puts it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import InstructLabError
from instruct_lab.records import RunRecord
from instruct_lab.records.folder import is_locked
from instruct_lab.records.schema import Status

if TYPE_CHECKING:
    from instruct_lab.experiment.check import Checked
    from instruct_lab.training.shared import SharedModels

STUDY_NAME = "sweep"
LOCK_SECONDS = 60.0
"""How long a trial waits for a process that is still writing its record, as one whose sweep was killed may be."""
ENDED = ("finished", "failed", "pruned")
TASK_VARIABLE = "INSTRUCT_LAB_TASK"
"""Tells a process that it was started for one trial, whose task stands in this file."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Where a trial tells its validation values, and asks whether to go on.

    Args:
        storage: URL of the sweep's Optuna storage.
        trial_id: of the trial in it.
        metric: the logged value that is told.
        pruner: config of the pruner.
    """

    storage: str
    trial_id: int
    metric: str
    pruner: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """All that another process needs to make one run of a sweep.

    Args:
        runs_path: the folder of all records.
        name: the folder of this run's record.
        run_id: the record's own folder, so that a sweep that goes on finds it.
        overrides: the run's config.
        sweep: what the record's manifest says of the sweep.
        working_path: the lab.
        output_path: the file that receives what the run prints.
        report: null where the trial is not pruned.
        resumes: whether the record was begun before; null: as it stands on disk.
        checked: the config, where it was checked beforehand; a trial of another process checks it again.
    """

    runs_path: str
    name: str
    run_id: str
    overrides: list[str]
    sweep: dict[str, Any]
    working_path: str
    output_path: str
    report: Report | None = None
    resumes: bool | None = None
    checked: Checked | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def record_path(self) -> Path:
        """The folder of the run's record."""
        return Path(self.runs_path) / self.name / self.run_id

    def to_json(self) -> dict[str, Any]:
        """As plain containers, for another process."""
        return dataclasses.asdict(dataclasses.replace(self, checked=None))

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Task:
        """Out of plain containers again."""
        report = plain.get("report")
        return cls(**{**plain, "report": Report(**report) if report else None})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    status: Status
    message: str = ""


def run_task(task: Task, shared: SharedModels | None = None) -> Outcome:
    """Make the run, or go on with it where its record was begun before; whatever fails is told by the record.

    Args:
        task: what to run.
        shared: weights that earlier trials of this process loaded.

    Raises:
        Interrupted: a signal arrived; the record says so, and the trial can go on later.
    """
    os.chdir(task.working_path)
    with output_to(Path(task.output_path)):
        try:
            return _ran(task, shared)
        except Exception as error:  # also one that the record tells of already
            print("".join(traceback.format_exception(error)), file=sys.stderr)
            _note_failure(task, error)
            return Outcome(
                "failed", f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            )
        finally:
            if shared is not None:
                shared.end_run()


def _ran(task: Task, shared: SharedModels | None) -> Outcome:
    from instruct_lab.callbacks import Pruned
    from instruct_lab.training.run import RunContext, resume, train

    record = _begun(task)
    status = record.manifest.status if record is not None else None
    if record is not None and status in ENDED:
        return Outcome(status, _message(record))
    try:
        if record is not None and task.resumes is not False:
            experiment, config = _of_record(record)
            own = _needs_own_process(task, experiment, resumes=True)
            context = RunContext(shared=shared, on_validation=validation_report(task))
            return own or _finished(lambda: resume(experiment, config, record, context))
        from instruct_lab.experiment.check import check

        checked = task.checked or check(task.overrides).or_refuse()
        own = _needs_own_process(task, checked.experiment, resumes=False)
        context = RunContext(task.name, task.run_id, {"sweep": task.sweep}, shared, validation_report(task))
        choices = checked.composition.choices
        return own or _finished(lambda: train(checked.experiment, checked.resolved, choices, task.overrides, context))
    except Pruned as pruned:
        return Outcome("pruned", str(pruned))


def _finished(run: Any) -> Outcome:
    run()
    return Outcome("finished")


def _of_record(record: RunRecord) -> tuple[Any, dict[str, Any]]:
    from omegaconf import OmegaConf

    from instruct_lab.experiment.check import check_config, plain

    config = OmegaConf.create(record.config)
    return check_config(config), plain(config)


def _begun(task: Task) -> RunRecord | None:
    """The record, where an earlier process began it; once no process writes it any more."""
    path = task.record_path
    if not (path / "manifest.json").is_file():
        return None
    if os.environ.get("LOCAL_RANK", "0") == "0":
        deadline = time.monotonic() + LOCK_SECONDS
        while is_locked(path) and time.monotonic() < deadline:
            time.sleep(0.2)
    return RunRecord.open(path)


def _message(record: RunRecord) -> str:
    exception = record.manifest.exception
    return f"{exception.type}: {exception.message}" if exception is not None else ""


def _note_failure(task: Task, error: Exception) -> None:
    """Let the record tell of a failure that came before the run could begin."""
    path = task.record_path
    if (path / "manifest.json").is_file() and RunRecord.open(path).manifest.status in ENDED:
        return
    if not (path / "manifest.json").is_file():
        from omegaconf import OmegaConf

        from instruct_lab.config.compose import compose
        from instruct_lab.errors import ConfigError

        try:
            config: Any = OmegaConf.to_container(compose(task.overrides).config, resolve=False)
        except ConfigError:
            config = {}
        facts = {"sweep": task.sweep}
        RunRecord.create(Path(task.runs_path), task.name, config, task.overrides, run_id=task.run_id, **facts)
    RunRecord.open(path).write_failure(error)


def validation_report(task: Task) -> Callable[[int, dict[str, float]], str | None] | None:
    """Told the run's validation values at each step, says why the run stops here; none where nothing is pruned."""
    report = task.report
    if report is None:
        return None
    metric = report.metric
    opened = functools.cache(lambda: _trial(report))

    def validated(step: int, values: dict[str, float]) -> str | None:
        if metric not in values:
            raise InstructLabError(
                f"sweep.metric is {metric}, which is not told during training",
                do=f"choose one of: {', '.join(sorted(values))}; or pruner=none",
            )
        trial = opened()
        trial.report(values[metric], step)
        if not trial.should_prune():
            return None
        return f"{metric} {values[metric]:.6g} at step {step}: the sweep's pruner stopped the run"

    return validated


def _trial(report: Report) -> Any:
    """The Optuna trial, in whatever process."""
    import optuna
    from omegaconf import OmegaConf

    from instruct_lab.config.build import build
    from instruct_lab.sweep.storage import open_storage

    study = optuna.load_study(
        study_name=STUDY_NAME,
        storage=open_storage(report.storage),
        pruner=build(OmegaConf.create(report.pruner)).root.build(),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    return optuna.trial.Trial(study, report.trial_id)


def _needs_own_process(task: Task, experiment: Any, *, resumes: bool) -> Outcome | None:
    """Make a run of several devices in a process of its own, whose command line Lightning can start again.

    Returns:
        The outcome; none where the run can be made here.
    """
    devices = experiment.trainer.arguments.get("devices", "auto")
    nodes = experiment.trainer.arguments.get("num_nodes", 1)
    if (devices in ("auto", 1, "1", [0]) and nodes == 1) or TASK_VARIABLE in os.environ:
        return None
    file = Path(task.output_path).with_suffix(".task.json")
    file.write_text(json.dumps(dataclasses.replace(task, resumes=resumes).to_json()), encoding="utf-8")
    environment = {**os.environ, TASK_VARIABLE: str(file)}
    environment.pop("INSTRUCT_LAB_RUN_PATH", None)
    command = [sys.executable, "-m", "instruct_lab.sweep.worker", str(file)]
    done = subprocess.run(command, env=environment, check=False)
    record = RunRecord.open(task.record_path) if (task.record_path / "manifest.json").is_file() else None
    status = record.manifest.status if record is not None else None
    if record is not None and status in (*ENDED, "interrupted"):
        return Outcome(status, _message(record))
    raise RuntimeError(f"the process of this trial ended with exit code {done.returncode}")


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what this process prints, libraries in C included, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        for number in (1, 2):
            os.dup2(opened, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, original in zip((1, 2), kept, strict=True):
            os.dup2(original, number)
            os.close(original)
        os.close(opened)
