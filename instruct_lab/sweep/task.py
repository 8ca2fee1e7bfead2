"""What a launcher receives for each run of a sweep, and what it returns."""

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
"""Names the cores that a worker process may use."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Where a trial reports its validation values, so that the sweep's pruner can stop it.

    Args:
        storage: URL of the sweep's Optuna storage.
        trial_id: the trial's id in it.
        metric: the logged value that is reported.
        pruner: config of the pruner.
    """

    storage: str
    trial_id: int
    metric: str
    pruner: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """All that another process needs to make one run of a sweep.

    Args:
        runs_path: the folder of all records.
        name: the folder of this run's record.
        run_id: the record's own folder, fixed beforehand so that a resumed sweep finds it.
        overrides: the run's config.
        sweep: the sweep's entry in the record's manifest.
        working_path: the working directory.
        output_path: the file that receives whatever the run prints.
        report: null if the trial cannot be pruned.
        resumes: whether to continue an existing record; null: if there is one.
        checked: the config if it was checked before; not passed to other processes, which check it again.
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
    checked: Checked | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def record_path(self) -> Path:
        """The folder of the run's record."""
        return Path(self.runs_path) / self.name / self.run_id

    def to_json(self) -> dict[str, Any]:
        """As plain containers, for another process."""
        return dataclasses.asdict(dataclasses.replace(self, checked=None))

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> Task:
        """From plain containers."""
        report = entries.get("report")
        return cls(**{**entries, "report": Report(**report) if report else None})


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the run of a task ended.

    Args:
        status: as in the run's record.
        message: why it did not finish.
    """

    status: Status
    message: str = ""


def child_environment(**entries: str) -> dict[str, str]:
    """Environment variables for a new process that makes runs of its own.

    Args:
        entries: further variables.
    """
    inherited = {name: value for name, value in os.environ.items() if name != RUN_PATH_VARIABLE}
    return {**inherited, **entries}
