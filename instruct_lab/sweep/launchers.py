"""Launchers: where trials run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.errors import Problem

if TYPE_CHECKING:
    from instruct_lab.sweep.task import Outcome, Task

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0)]


class Session(ABC):
    """An open launcher: takes tasks, a few at a time."""

    slots: int
    """How many trials run beside each other."""

    @abstractmethod
    def submit(self, task: Task) -> Future[Outcome]:
        """Start a trial."""

    @abstractmethod
    def close(self) -> None:
        """End what is still running, and what was started for the sweep."""


class Launcher(Component, ABC):
    """Runs trials, each as `instruct_lab.sweep.task.run_task` does."""

    @abstractmethod
    def open(self, sweep_path: Path) -> Session:
        """Start what trials run in.

        Args:
            sweep_path: the sweep's folder, for logs.
        """


@component
class Shared(Launcher):
    """One trial after the other in this process.

    Libraries, tokenizer and base weights are loaded once; the weights are compared with their hash before each use. A
    trial gives the same numbers, to the last bit, as alone, and leaves nothing of itself in memory.
    """

    def open(self, sweep_path: Path) -> Session:
        """Start nothing."""
        from instruct_lab.sweep._sessions import SharedSession

        return SharedSession()


@component
class Processes(Launcher):
    """Trials beside each other on this machine, each worker process with its share of the cores, or a GPU of its own.

    A worker makes many trials, and shares between them what `Shared` does; one that dies takes its trial alone.
    """

    num_processes: Count | None = None  # null: one for each GPU, or two without any

    def open(self, sweep_path: Path) -> Session:
        """Start the workers."""
        from instruct_lab.sweep._sessions import ProcessSession

        return ProcessSession(self.num_processes)


@component
class Ray(Launcher):
    """Trials as tasks of a Ray cluster: a local one, or an existing one by its address."""

    address: str | None = None  # null: a local cluster, which ends with the sweep
    num_trials: Count | None = None  # trials at a time; null: as many as the cluster's CPUs and GPUs hold
    cpus: Annotated[float, Field(gt=0)] = 1  # of a trial
    gpus: Amount = 0  # of a trial

    def problems(self) -> Iterator[Problem]:
        """Ray is not installed."""
        if find_spec("ray") is None:
            reason = "needs the package ray, which is not installed: pip install 'instruct-lab[ray]'"
            yield Problem(key="", reason=reason, kind="unavailable_here")

    def open(self, sweep_path: Path) -> Session:
        """Connect."""
        from instruct_lab.sweep._clusters import RaySession

        return RaySession(self)


@component
class Slurm(Launcher):
    """Each trial a Slurm job, by submitit."""

    cluster: Literal["slurm", "local"] = "slurm"  # local: processes on this machine, to try it without Slurm
    num_trials: Count = 8  # jobs at a time
    partition: str | None = None  # null: the cluster's own default
    minutes: Count = 240  # a job's time limit
    cpus: Count = 4  # of a trial
    gpus: Annotated[int, Field(ge=0)] = 0  # of a trial
    memory_gb: Annotated[float, Field(gt=0)] = 16.0  # of a trial
    options: dict[str, Any] = Field(default_factory=dict)  # further options of sbatch, such as account or constraint

    def problems(self) -> Iterator[Problem]:
        """Submitit or Slurm is missing."""
        import shutil

        if find_spec("submitit") is None:
            reason = "needs the package submitit, which is not installed: pip install 'instruct-lab[slurm]'"
            yield Problem(key="", reason=reason, kind="unavailable_here")
        elif self.cluster == "slurm" and shutil.which("sbatch") is None:
            reason = "sbatch, which is not installed, starts the jobs"
            yield Problem(key="cluster", value="slurm", reason=reason, kind="unavailable_here")

    def open(self, sweep_path: Path) -> Session:
        """Name the jobs' folder."""
        from instruct_lab.sweep._clusters import SlurmSession

        return SlurmSession(self, sweep_path / "jobs")
