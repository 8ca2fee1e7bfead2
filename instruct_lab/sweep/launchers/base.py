"""Base classes of launchers and their sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from pathlib import Path

from instruct_lab.config import Component
from instruct_lab.sweep.task import Outcome, Task


class Session(ABC):
    """An open session of a launcher, which runs up to `slots` tasks at the same time."""

    slots: int
    """Maximum number of trials that run at the same time."""

    @abstractmethod
    def submit(self, task: Task) -> Future[Outcome]:
        """Start a task, which runs one trial, and return the future of its outcome."""

    @abstractmethod
    def close(self) -> None:
        """Stop running trials and everything that was started for them."""


class Launcher(Component, ABC):
    """Base class of launchers, which run trials; each trial is one call of `instruct_lab.sweep.trial.run_task`."""

    @property
    def uses_other_machines(self) -> bool:
        """Whether trials run on machines that may have devices and packages which this machine lacks."""
        return False

    @abstractmethod
    def open(self, sweep_path: Path) -> Session:
        """Open a session: start the processes, or connect to the cluster, in which trials run.

        Args:
            sweep_path: the sweep's folder, for logs.
        """
