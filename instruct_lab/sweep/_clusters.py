"""Sessions on clusters: Ray and Slurm."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from instruct_lab.config import lab_code
from instruct_lab.errors import InstructLabError
from instruct_lab.sweep import launchers
from instruct_lab.sweep.launchers import Session
from instruct_lab.sweep.task import Outcome, Task, run_task

POLL_SECONDS = 0.5
_shared: Any = None


def run_plain(plain: dict[str, Any]) -> dict[str, str]:
    """Run a task in a cluster's worker process, which keeps loaded weights from one to the next."""
    global _shared
    from instruct_lab.training.ending import Interrupted
    from instruct_lab.training.shared import SharedModels

    _shared = _shared or SharedModels.of_process()
    try:
        outcome = run_task(Task.from_json(plain), _shared)
    except Interrupted as interrupted:
        return {"status": "interrupted", "message": str(interrupted)}
    return {"status": outcome.status, "message": outcome.message}


class RaySession(Session):
    """Tasks of a Ray cluster."""

    def __init__(self, settings: launchers.Ray) -> None:
        import ray

        self._ray = ray
        self._owns = not ray.is_initialized()
        search_path = os.pathsep.join(path for path in sys.path if path)
        environment = {"env_vars": {"PYTHONPATH": search_path, **lab_code.inherited()}}
        if self._owns:
            try:
                ray.init(
                    address=settings.address,
                    include_dashboard=False if settings.address is None else None,
                    log_to_driver=False,
                    logging_level="ERROR",
                    runtime_env=environment,
                )
            except Exception as error:  # whatever Ray raises where it cannot connect
                raise InstructLabError(
                    f"Ray cannot be reached: {error}",
                    where=f"hydra.launcher.address={settings.address}",
                    do="check the address, or leave it null for a local cluster",
                ) from error
        resources = ray.cluster_resources()
        room = [resources.get("CPU", 1) / settings.cpus]
        if settings.gpus:
            room.append(resources.get("GPU", 0) / settings.gpus)
        self.slots = settings.num_trials or int(min(room))
        if self.slots < 1 or min(room) < 1:
            self.close()
            raise InstructLabError(
                f"The Ray cluster has {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs: too few "
                "for one trial",
                where="hydra.launcher.cpus and hydra.launcher.gpus",
                do="lower them",
            )
        options = {"num_cpus": settings.cpus, "num_gpus": settings.gpus, "max_retries": 0}
        remote: Any = ray.remote
        self._run = remote(**options)(run_plain)

    def submit(self, task: Task) -> Future[Outcome]:
        """Start a task."""
        return _mapped(self._run.remote(task.to_json()).future())

    def close(self) -> None:
        """End a cluster that was started for the sweep; tasks end with it."""
        if self._owns:
            self._ray.shutdown()


def _mapped(plain: Future[dict[str, str]]) -> Future[Outcome]:
    """The outcome, also where the cluster lost the task."""
    future: Future[Outcome] = Future()

    def done(finished: Future[dict[str, str]]) -> None:
        try:
            future.set_result(Outcome(**finished.result()))  # type: ignore[arg-type]
        except Exception as error:  # a worker that died, a node that went away
            future.set_result(Outcome("failed", f"{type(error).__name__}: {error}"))

    plain.add_done_callback(done)
    return future


class SlurmSession(Session):
    """Jobs of submitit."""

    def __init__(self, settings: launchers.Slurm, folder: Path) -> None:
        import submitit

        self.slots = settings.num_trials
        self._executor = submitit.AutoExecutor(folder=folder, cluster=settings.cluster)
        options = {f"slurm_{name}": value for name, value in settings.options.items()}
        if settings.partition is not None:
            options["slurm_partition"] = settings.partition
        self._executor.update_parameters(
            name="instruct-lab",
            timeout_min=settings.minutes,
            cpus_per_task=settings.cpus,
            gpus_per_node=settings.gpus,
            mem_gb=settings.memory_gb,
            **(options if settings.cluster == "slurm" else {}),
        )
        self._jobs: list[tuple[Any, Future[Outcome]]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._watched, daemon=True)
        self._watch.start()

    def submit(self, task: Task) -> Future[Outcome]:
        """Hand in a job."""
        job, future = self._executor.submit(run_plain, task.to_json()), Future[Outcome]()
        with self._lock:
            self._jobs.append((job, future))
        return future

    def _watched(self) -> None:
        while not self._closed.is_set():
            with self._lock:
                jobs = list(self._jobs)
            for job, future in jobs:
                if job.done():
                    with self._lock:
                        self._jobs.remove((job, future))
                    future.set_result(_job_outcome(job))
            time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Cancel what is still running or waiting."""
        self._closed.set()
        self._watch.join()
        for job, future in self._jobs:
            job.cancel(check=False)
            future.set_result(Outcome("interrupted", "the sweep was stopped"))


def _job_outcome(job: Any) -> Outcome:
    try:
        return Outcome(**job.result())
    except Exception as error:  # a job that was killed, ran out of time or memory
        told = str(error).strip().splitlines()
        return Outcome("failed", f"job {job.job_id}: {told[-1] if told else type(error).__name__}")
