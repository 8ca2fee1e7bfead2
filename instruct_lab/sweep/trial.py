"""Make one run of a sweep, as a `Task` describes it, in the process that the launcher chose."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import ConfigError
from instruct_lab.launch import is_first_process
from instruct_lab.progress import reporting
from instruct_lab.records import RunRecord
from instruct_lab.records.folder import has_manifest, is_locked
from instruct_lab.sweep.reporting import pruning_check
from instruct_lab.sweep.task import Outcome, Task, child_environment
from instruct_lab.terminal import write_line

if TYPE_CHECKING:
    from instruct_lab.training.shared import SharedModels

LOCK_SECONDS = 60.0
"""Maximum time to wait while another process, such as a worker of a killed sweep, still writes the record."""
ENDED = ("finished", "failed", "pruned")
TASK_VARIABLE = "INSTRUCT_LAB_TASK"
"""Environment variable that holds the path of the task file in a process started for one trial."""


def run_task(task: Task, shared: SharedModels | None = None) -> Outcome:
    """Make the run that a task describes, or resume it if its record exists; errors are written to the record.

    If the run has already ended, nothing is done, and its outcome is returned.

    Args:
        task: the description of the run.
        shared: models that earlier runs in this process have loaded; `None`: no model is kept for later runs.

    Raises:
        Interrupted: a signal arrived; the run's status is `interrupted`, and the run can be resumed.
    """
    os.chdir(task.working_path)
    with output_to(Path(task.output_path)), reporting():
        try:
            return _train_or_resume(task, shared)
        except Exception as error:
            write_line("".join(traceback.format_exception(error)), error=True)
            _record_failure(task, error)
            lines = str(error).strip().splitlines()
            return Outcome("failed", f"{type(error).__name__}: {lines[0] if lines else ''}")
        finally:
            if shared is not None:
                shared.end_run()


def _train_or_resume(task: Task, shared: SharedModels | None) -> Outcome:
    from instruct_lab.callbacks import Pruned
    from instruct_lab.experiment.check import check
    from instruct_lab.experiment.recorded import build_recorded
    from instruct_lab.training.run import RunContext, resume, train

    record = _existing_record(task)
    if record is not None and record.manifest.status in ENDED:
        return _outcome_of(record)
    check_pruning = None if task.report is None else pruning_check(task.report)
    try:
        if record is not None and task.resumes is not False:
            experiment, config = build_recorded(record)
            if _needs_own_process(experiment):
                return _run_in_own_process(task, resumes=True)
            context = RunContext(shared=shared, on_validation=check_pruning)
            resume(experiment, config, record, context, force=task.force)
        else:
            checked = task.checked or check(task.overrides).or_refuse()
            if _needs_own_process(checked.experiment):
                return _run_in_own_process(task, resumes=False)
            composition = checked.composition
            facts = {"sweep": task.sweep, "derived": composition.derived}
            context = RunContext(task.name, task.run_id, facts, shared, check_pruning)
            train(checked.experiment, checked.resolved, composition.choices, task.overrides, context)
    except Pruned as pruned:
        return Outcome("pruned", str(pruned))
    return Outcome("finished")


# ---- the record


def _existing_record(task: Task) -> RunRecord | None:
    """Return the record of the task's run; `None` if it does not exist.

    If another process is writing to the record, wait until it ends, but at most `LOCK_SECONDS`.
    """
    path = task.record_path
    if not has_manifest(path):
        return None
    if is_first_process():
        deadline = time.monotonic() + LOCK_SECONDS
        while is_locked(path) and time.monotonic() < deadline:
            time.sleep(0.2)
    return RunRecord.open(path)


def _outcome_of(record: RunRecord) -> Outcome:
    manifest = record.manifest
    exception = manifest.exception
    message = f"{exception.type}: {exception.message}" if exception is not None else ""
    return Outcome(manifest.status or "failed", message)


def _record_failure(task: Task, error: Exception) -> None:
    """Write an error to the record of the task's run; create the record if the run failed before it had one."""
    path = task.record_path
    if not has_manifest(path):
        from omegaconf import OmegaConf

        from instruct_lab.config.compose import compose

        try:
            config: Any = OmegaConf.to_container(compose(task.overrides).config, resolve=False)
        except ConfigError:
            config = {}
        entries = {"sweep": task.sweep}
        RunRecord.create(Path(task.runs_path), task.name, config, task.overrides, run_id=task.run_id, **entries)
    record = RunRecord.open(path)
    if record.manifest.status not in ENDED:
        record.write_failure(error)


# ---- runs of several devices


def _needs_own_process(experiment: Any) -> bool:
    """Whether a run needs a process of its own, because it uses several devices.

    For such a run, Lightning starts the command line of the current process again for each device.
    """
    from instruct_lab.experiment.rules.devices import num_devices

    if TASK_VARIABLE in os.environ:
        return False
    count = num_devices(experiment.trainer)
    if count is None:  # all devices of this machine
        import torch

        count = torch.cuda.device_count()
    return count > 1 or experiment.trainer.arguments.get("num_nodes", 1) != 1


def _run_in_own_process(task: Task, *, resumes: bool) -> Outcome:
    file = Path(task.output_path).with_suffix(".task.json")
    file.write_text(json.dumps(dataclasses.replace(task, resumes=resumes).to_json()), encoding="utf-8")
    command = [sys.executable, "-m", "instruct_lab.sweep.worker", str(file)]
    done = subprocess.run(command, env=child_environment(**{TASK_VARIABLE: str(file)}), check=False)
    record = RunRecord.open(task.record_path) if has_manifest(task.record_path) else None
    if record is not None and record.manifest.status in (*ENDED, "interrupted"):
        return _outcome_of(record)
    raise RuntimeError(f"the process of this trial ended with exit code {done.returncode}")


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append to a file everything that this process prints in the `with` block, including output of C libraries."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    original = [os.dup(number) for number in (1, 2)]
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        for number in (1, 2):
            os.dup2(opened, number)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, descriptor in zip((1, 2), original, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(opened)
