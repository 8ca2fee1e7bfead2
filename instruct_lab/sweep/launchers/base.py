"""What every launcher and its session offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from pathlib import Path

from instruct_lab.config import Component
from instruct_lab.sweep.task import Outcome, Task


class Session(ABC):
    """An open launcher: takes tasks, at most `slots` at a time."""

    slots: int
    """How many trials run at the same time."""

    @abstractmethod
    def submit(self, task: Task) -> Future[Outcome]:
        """Start a trial."""

    @abstractmethod
    def close(self) -> None:
        """Stop running trials, and whatever was started for the sweep."""


class Launcher(Component, ABC):
    """Runs trials, each by `instruct_lab.sweep.trial.run_task`."""

    @abstractmethod
    def open(self, sweep_path: Path) -> Session:
        """Start whatever trials run in.

        Args:
            sweep_path: the sweep's folder, for logs.
        """
