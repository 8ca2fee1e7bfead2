"""Run trials in worker processes on this machine."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.cores import usable_cores
from instruct_lab.sweep.launchers.base import Launcher, Session
from instruct_lab.sweep.task import CORES_VARIABLE, Outcome, Task, child_environment

DEFAULT_PROCESSES = 2
TERMINATE_SECONDS = 30.0
INTERRUPTED_CODES = (129, 130, 143)


@component
class Processes(Launcher):
    """Runs trials in several worker processes on this machine.

    The CPU cores are divided among the processes; if there are GPUs, each process also gets one. Each process loads a
    model only once for many trials. If a process dies, only its current trial fails.
    """

    num_processes: Annotated[int, Field(ge=1)] | None = None  # worker processes; null: one per GPU, or two without GPUs

    def open(self, sweep_path: Path) -> Session:
        """Prepare the workers; each process is started when it gets its first trial."""
        return ProcessSession(self.num_processes)


class ProcessSession(Session):
    """Worker processes that run trials, each with some of the CPU cores and, if there are GPUs, one GPU.

    Args:
        num_processes: number of worker processes; `None`: one for each GPU, or two without a GPU.
    """

    def __init__(self, num_processes: int | None) -> None:
        gpus, cores = _visible_gpus(), usable_cores()
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
        """Give the trial to a worker process as soon as one is free."""
        return self._threads.submit(self._run, task)

    def _run(self, task: Task) -> Outcome:
        worker = self._free.get()
        try:
            return worker.run(task)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Stop the workers; running trials end with the status `interrupted`."""
        for worker in self._workers:
            worker.terminate()
        self._threads.shutdown(wait=True, cancel_futures=True)


def _visible_gpus() -> list[str]:
    """List the GPUs that this process may use, by their names in `CUDA_VISIBLE_DEVICES`."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] or [str(index) for index in range(count)]


class _Worker:
    """A worker process (`instruct_lab.sweep.worker`) that runs trials one after another and is restarted if it dies.

    The process reads the description of a trial from its standard input and writes the outcome to its standard output,
    each as a line of JSON.

    Args:
        cores: the CPU cores that the process may use.
        gpu: the GPU that the process may use, by its name in `CUDA_VISIBLE_DEVICES`; `None`: the process can use the
            same GPUs as its parent.
    """

    def __init__(self, cores: list[int], gpu: str | None) -> None:
        threads = str(len(cores))
        self._environment = child_environment(
            **{CORES_VARIABLE: ",".join(map(str, cores)), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        )
        if gpu is not None:
            self._environment["CUDA_VISIBLE_DEVICES"] = gpu
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def run(self, task: Task) -> Outcome:
        """Run a trial in the process and return the outcome that the process reports.

        If the process dies before it reports, the outcome is `failed`, or `interrupted` if the sweep was stopped.
        """
        with self._lock:
            if self._is_closed:
                return Outcome("interrupted", "the sweep was stopped")
            process = self._running_process()
        answer = _ask(process, task)
        if answer:
            return Outcome(**json.loads(answer))
        code = process.wait()
        if self._is_closed or code in INTERRUPTED_CODES:
            return Outcome("interrupted", "the sweep was stopped")
        reason = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Outcome("failed", f"the worker process ended with {reason}; see {task.output_path}")

    def _running_process(self) -> subprocess.Popen[str]:
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
        """Ask the process to end; kill it if it has not ended after `TERMINATE_SECONDS`."""
        with self._lock:
            self._is_closed = True
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(TERMINATE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _ask(process: subprocess.Popen[str], task: Task) -> str:
    """Send a trial to a worker process and return the outcome that it writes, as a line of JSON.

    If the process ends before it has written an outcome, return an empty string.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(task.to_json()) + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    except OSError:
        return ""
