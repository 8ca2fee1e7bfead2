"""Trials one after the other in this process."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from instruct_lab.config import component
from instruct_lab.sweep.launchers.base import Launcher, Session
from instruct_lab.sweep.task import Outcome, Task
from instruct_lab.sweep.trial import run_task


@component
class Shared(Launcher):
    """One trial after the other in this process.

    Libraries, tokenizer and base weights are loaded once; before each use, the weights are compared with their hash. A
    trial gives the same numbers, to the last bit, as in a process of its own, and leaves nothing in memory.
    """

    def open(self, sweep_path: Path) -> Session:
        """A session without any workers."""
        return SharedSession()


class SharedSession(Session):
    """Runs each task immediately, in the caller's thread."""

    slots = 1

    def __init__(self) -> None:
        from instruct_lab.training.process import shared_models

        self._shared = shared_models()

    def submit(self, task: Task) -> Future[Outcome]:
        """Run the trial; the future that is returned is done."""
        future: Future[Outcome] = Future()
        future.set_result(run_task(task, self._shared))
        return future

    def close(self) -> None:
        """Drop the loaded models."""
        self._shared.clear()
