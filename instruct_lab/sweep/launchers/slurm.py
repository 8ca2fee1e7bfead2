"""Run trials as Slurm jobs."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.errors import Problem
from instruct_lab.optional_packages import missing_packages
from instruct_lab.sweep.launchers._cluster import run_in_worker
from instruct_lab.sweep.launchers.base import Launcher, Session
from instruct_lab.sweep.task import Outcome, Task

POLL_SECONDS = 0.5

Count = Annotated[int, Field(ge=1)]


@component
class Slurm(Launcher):
    """Runs each trial as a Slurm job, through submitit."""

    cluster: Literal["slurm", "local"] = "slurm"  # where jobs run; local: as processes on this machine, without Slurm
    num_trials: Count = 8  # jobs at a time
    partition: str | None = None  # partition of the jobs; null: the cluster's default
    minutes: Count = 240  # time limit of a job
    cpus: Count = 4  # CPUs for each trial
    gpus: Annotated[int, Field(ge=0)] = 0  # GPUs for each trial
    memory_gb: Annotated[float, Field(gt=0)] = 16.0  # gigabytes of memory for each trial
    options: dict[str, Any] = Field(default_factory=dict)  # further options of sbatch, such as account or constraint

    @property
    def uses_other_machines(self) -> bool:
        """Whether the jobs run on the nodes of a Slurm cluster, not as local processes."""
        return self.cluster == "slurm"

    def problems(self) -> Iterator[Problem]:
        """Report that the package submitit or the program `sbatch` of Slurm is not installed."""
        yield from missing_packages("submitit")
        if self.cluster == "slurm" and shutil.which("sbatch") is None:
            reason = "jobs are started with sbatch, which is not installed"
            yield Problem(key="cluster", value="slurm", reason=reason, kind="unavailable_here")

    def open(self, sweep_path: Path) -> Session:
        """Open a session; submitit keeps scripts and logs of the jobs in the folder `jobs` of the sweep's folder."""
        return SlurmSession(self, sweep_path / "jobs")


class SlurmSession(Session):
    """A session that submits each trial as a job through submitit; a thread checks which jobs have ended."""

    def __init__(self, launcher: Slurm, folder: Path) -> None:
        import submitit

        self.slots = launcher.num_trials
        self._executor = submitit.AutoExecutor(folder=folder, cluster=launcher.cluster)
        options = {f"slurm_{name}": value for name, value in launcher.options.items()}
        if launcher.partition is not None:
            options["slurm_partition"] = launcher.partition
        self._executor.update_parameters(
            name="instruct-lab",
            timeout_min=launcher.minutes,
            cpus_per_task=launcher.cpus,
            gpus_per_node=launcher.gpus,
            mem_gb=launcher.memory_gb,
            **(options if launcher.cluster == "slurm" else {}),
        )
        self._jobs: list[tuple[Any, Future[Outcome]]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def submit(self, task: Task) -> Future[Outcome]:
        """Submit the trial as a job."""
        job, future = self._executor.submit(run_in_worker, task.to_json()), Future[Outcome]()
        with self._lock:
            self._jobs.append((job, future))
        return future

    def _watch(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                jobs = list(self._jobs)
            for job, future in jobs:
                if job.done():
                    with self._lock:
                        self._jobs.remove((job, future))
                    future.set_result(_outcome(job))
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Cancel running and waiting jobs."""
        self._closed.set()
        self._watcher.join()
        for job, future in self._jobs:
            job.cancel(check=False)
            future.set_result(Outcome("interrupted", "the sweep was stopped"))


def _outcome(job: Any) -> Outcome:
    try:
        return Outcome(**job.result())
    except Exception as error:  # the job was killed, or ran out of time or memory
        lines = str(error).strip().splitlines()
        return Outcome("failed", f"job {job.job_id}: {lines[-1] if lines else type(error).__name__}")
