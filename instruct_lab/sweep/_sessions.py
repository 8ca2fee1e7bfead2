"""Sessions on this machine: in this process, or in worker processes."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from instruct_lab.sweep.launchers import Session
from instruct_lab.sweep.task import Outcome, Task, run_task

CORES_VARIABLE = "INSTRUCT_LAB_CORES"
DEFAULT_PROCESSES = 2
TERMINATE_SECONDS = 30.0
INTERRUPTED_CODES = (130, 143)


class SharedSession(Session):
    """Runs each task at once, in the caller's thread."""

    slots = 1

    def __init__(self) -> None:
        from instruct_lab.training.shared import SharedModels

        self._shared = SharedModels.of_process()

    def submit(self, task: Task) -> Future[Outcome]:
        """Run the trial; the future is done already."""
        future: Future[Outcome] = Future()
        future.set_result(run_task(task, self._shared))
        return future

    def close(self) -> None:
        """Let the weights go."""
        self._shared.clear()


class ProcessSession(Session):
    """Worker processes, each with a share of the cores or a GPU of its own."""

    def __init__(self, num_processes: int | None) -> None:
        gpus = _visible_gpus()
        cores = (
            sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        )
        self.slots = num_processes or len(gpus) or min(DEFAULT_PROCESSES, len(cores))
        self._free: queue.Queue[_Worker] = queue.Queue()
        self._workers = []
        for index in range(self.slots):
            share = cores[index * len(cores) // self.slots : (index + 1) * len(cores) // self.slots]
            worker = _Worker(share or [cores[index % len(cores)]], gpus[index % len(gpus)] if gpus else None)
            self._workers.append(worker)
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(self.slots)

    def submit(self, task: Task) -> Future[Outcome]:
        """Hand the trial to a free worker."""
        return self._threads.submit(self._run, task)

    def _run(self, task: Task) -> Outcome:
        worker = self._free.get()
        try:
            return worker.run(task)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End the workers; a trial that is running is interrupted, and its record says so."""
        for worker in self._workers:
            worker.terminate()
        self._threads.shutdown(wait=True, cancel_futures=True)


def _visible_gpus() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` calls the GPUs that this process may use."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] or [str(index) for index in range(count)]


class _Worker:
    """A process that runs one task after another; started when the first arrives, and again after it died."""

    def __init__(self, cores: list[int], gpu: str | None) -> None:
        self._environment = {
            **os.environ,
            CORES_VARIABLE: ",".join(map(str, cores)),
            "OMP_NUM_THREADS": str(len(cores)),
            "MKL_NUM_THREADS": str(len(cores)),
        }
        self._environment.pop("INSTRUCT_LAB_RUN_PATH", None)
        if gpu is not None:
            self._environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, task: Task) -> Outcome:
        """Wait for the outcome; a worker that dies fails the task."""
        with self._lock:
            if self._closed:
                return Outcome("interrupted", "the sweep was stopped")
            process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(task.to_json()) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        if answer:
            plain: dict[str, Any] = json.loads(answer)
            return Outcome(**plain)
        code = process.wait()
        if self._closed or code in INTERRUPTED_CODES:
            return Outcome("interrupted", "the sweep was stopped")
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Outcome("failed", f"the worker process ended with {reason}; see {task.output_path}")

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "instruct_lab.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
                text=True,
                encoding="utf-8",
            )
        return self._process

    def terminate(self) -> None:
        """End the process, gently first."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
