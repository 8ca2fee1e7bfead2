"""Describe a run of a sweep for the launcher that starts it (`Task`), and how the run has ended (`Outcome`)."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.records.schema import Status
from instruct_lab.training.names import RUN_PATH_VARIABLE

if TYPE_CHECKING:
    from instruct_lab.experiment.check import Checked

CORES_VARIABLE = "INSTRUCT_LAB_CORES"
"""Environment variable that lists the cores a worker process may use."""


@dataclasses.dataclass(frozen=True)
class Report:
    """The database to which a trial reports its validation values, and the pruner that may stop the trial.

    Args:
        storage: URL of the database with the sweep's Optuna study.
        trial_id: the trial's id in the database.
        metric: name of the validation value that is reported, such as `val/loss`.
        pruner: config of the pruner, from which each process builds it.
    """

    storage: str
    trial_id: int
    metric: str
    pruner: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """Describes one run of a sweep; it contains everything that a process needs to make the run.

    Args:
        runs_path: the folder of all records.
        name: name of the folder that holds the records of the sweep and of its runs.
        run_id: id of the run's record, chosen in advance so that a resumed sweep finds the record.
        overrides: the overrides that define the run's config.
        sweep: the value of `sweep` in the run's `manifest.json`: the sweep's id, and the run's point and seed.
        working_path: the working directory for the run.
        output_path: the file that receives everything the run prints.
        report: where to report validation values, and the pruner that may stop the run; `None` if none may stop it.
        resumes: `False` to start the run even if its record exists. With `True` or `None`, the run is continued if its
            record exists, and started otherwise. A run that has ended is never repeated.
        force: whether to continue the run even if something that can change its results has changed since its start.
        checked: the run's config if this process has already checked it, otherwise `None`; it is not sent to other
            processes.
    """

    runs_path: str
    name: str
    run_id: str
    overrides: list[str]
    sweep: dict[str, Any]
    working_path: str
    output_path: str
    report: Report | None = None
    resumes: bool | None = None
    force: bool = False
    checked: Checked | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def record_path(self) -> Path:
        """The folder of the run's record."""
        return Path(self.runs_path) / self.name / self.run_id

    def to_json(self) -> dict[str, Any]:
        """Convert the task to a dictionary that can be sent to another process as JSON; `checked` is left out."""
        return dataclasses.asdict(dataclasses.replace(self, checked=None))

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Task:
        """Create a task from the dictionary that `to_json` returned."""
        report = entries.get("report")
        return cls(**{**entries, "report": Report(**report) if report else None})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of a sweep has ended.

    Args:
        status: the status of the run, such as `finished`.
        message: why the run did not finish; empty if it finished.
    """

    status: Status
    message: str = ""


def child_environment(**entries: str) -> dict[str, str]:
    """Return the environment variables for a child process that makes runs with records of their own.

    These are the variables of this process, except the one that names the folder of the current run's record.

    Args:
        entries: variables to add or replace.
    """
    inherited = {name: value for name, value in os.environ.items() if name != RUN_PATH_VARIABLE}
    return {**inherited, **entries}
