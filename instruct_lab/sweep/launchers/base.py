"""Base classes of launchers and their sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from pathlib import Path

from instruct_lab.config import Component
from instruct_lab.sweep.task import Outcome, Task


class Session(ABC):
    """The object that a launcher opens to run the trials of one sweep; up to `slots` trials run at the same time."""

    slots: int
    """Maximum number of trials that run at the same time."""

    @abstractmethod
    def submit(self, task: Task) -> Future[Outcome]:
        """Start one trial, described by `task`, and return a future that gets the trial's outcome."""

    @abstractmethod
    def close(self) -> None:
        """Stop the trials that are still running, and everything that was started for them."""


class Launcher(Component, ABC):
    """Base class of launchers, which decide where the trials of a sweep run.

    Wherever it runs, a trial is a call of `instruct_lab.sweep.trial.run_task`.
    """

    @property
    def uses_other_machines(self) -> bool:
        """Whether trials run on other machines, which may have devices and packages that this machine lacks."""
        return False

    @abstractmethod
    def open(self, sweep_path: Path) -> Session:
        """Open a session, through which the trials of a sweep are started, for example by connecting to a cluster.

        Args:
            sweep_path: the sweep's folder, in which the session can write logs.
        """
