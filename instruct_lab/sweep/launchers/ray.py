"""Run trials on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from instruct_lab.cache.ray_workers import connect
from instruct_lab.config import component
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.optional_packages import missing_packages
from instruct_lab.sweep.launchers._cluster import run_in_worker
from instruct_lab.sweep.launchers.base import Launcher, Session
from instruct_lab.sweep.task import Outcome, Task


@component
class Ray(Launcher):
    """Runs trials as tasks of a Ray cluster.

    If `address` is `None`, the environment variable `RAY_ADDRESS` names the cluster. If this is not set either, the
    trials use a cluster that already runs on this machine; if there is none, a new one is started here.
    """

    address: str | None = None  # address of the cluster; null: RAY_ADDRESS, or a cluster on this machine
    num_trials: Annotated[int, Field(ge=1)] | None = None  # trials at a time; null: as many as the CPUs and GPUs allow
    cpus: Annotated[float, Field(gt=0)] = 1  # CPUs for each trial
    gpus: Annotated[float, Field(ge=0)] = 0  # GPUs for each trial

    @property
    def uses_other_machines(self) -> bool:
        """Whether `address` or `RAY_ADDRESS` names a cluster, which may have other machines than this one."""
        return self.address is not None or "RAY_ADDRESS" in os.environ

    def problems(self) -> Iterator[Problem]:
        """Report that the package Ray is not installed."""
        yield from missing_packages("ray")

    def open(self, sweep_path: Path) -> Session:
        """Connect to the cluster, or start a new one on this machine."""
        return RaySession(self)


class RaySession(Session):
    """A session that runs each trial as a task of a Ray cluster."""

    def __init__(self, launcher: Ray) -> None:
        import ray

        self._ray = ray
        self._owns_cluster = not ray.is_initialized()
        if self._owns_cluster:
            address = launcher.address
            do = "check the address, or leave it null for a local cluster"
            connect(address, f"hydra.launcher.address={address}", do)
        resources = ray.cluster_resources()
        capacity = [resources.get("CPU", 1) / launcher.cpus]
        if launcher.gpus:
            capacity.append(resources.get("GPU", 0) / launcher.gpus)
        self.slots = launcher.num_trials or int(min(capacity))
        if self.slots < 1 or min(capacity) < 1:
            self.close()
            raise InstructLabError(
                f"The Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs: too few "
                "for one trial",
                where="hydra.launcher.cpus and hydra.launcher.gpus",
                do="lower them",
            )
        options = {"num_cpus": launcher.cpus, "num_gpus": launcher.gpus, "max_retries": 0}
        remote: Any = ray.remote
        self._run = remote(**options)(run_in_worker)

    def submit(self, task: Task) -> Future[Outcome]:
        """Start the trial as a task of the cluster."""
        return _outcome(self._run.remote(task.to_json()).future())

    def close(self) -> None:
        """Disconnect from the cluster; a local cluster that was started for the sweep is stopped with all its tasks.

        A connection that existed before the session stays open.
        """
        if self._owns_cluster:
            self._ray.shutdown()


def _outcome(entries: Future[dict[str, str]]) -> Future[Outcome]:
    """Convert the future of a Ray task to a future of the trial's outcome.

    The outcome is `failed` if the cluster lost the task, for example because a worker process died.
    """
    future: Future[Outcome] = Future()

    def set_outcome(finished: Future[dict[str, str]]) -> None:
        try:
            future.set_result(Outcome(**finished.result()))  # type: ignore[arg-type]
        except Exception as error:  # a worker died, or a node was lost
            future.set_result(Outcome("failed", f"{type(error).__name__}: {error}"))

    entries.add_done_callback(set_outcome)
    return future
