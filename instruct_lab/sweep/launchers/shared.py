"""Run trials one after the other in this process."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from instruct_lab.config import component
from instruct_lab.sweep.launchers.base import Launcher, Session
from instruct_lab.sweep.task import Outcome, Task
from instruct_lab.sweep.trial import run_task


@component
class Shared(Launcher):
    """Runs trials one after the other in this process.

    Libraries, the tokenizer and the base weights are loaded only once for all trials. Before each trial, the hash of
    the weights is checked: if an earlier trial changed them, they are loaded again. So a trial gives exactly the same
    numbers as in a process of its own.
    """

    def open(self, sweep_path: Path) -> Session:
        """Open a session without worker processes."""
        return SharedSession()


class SharedSession(Session):
    """A session that runs each trial in the calling thread, before `submit` returns."""

    slots = 1

    def __init__(self) -> None:
        from instruct_lab.training.process import shared_models

        self._shared = shared_models()

    def submit(self, task: Task) -> Future[Outcome]:
        """Run the trial and return a completed future."""
        future: Future[Outcome] = Future()
        future.set_result(run_task(task, self._shared))
        return future

    def close(self) -> None:
        """Drop the loaded models."""
        self._shared.clear()
