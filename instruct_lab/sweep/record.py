"""The record of a sweep (a folder beside the records of the sweep's runs), and functions that find and read sweeps."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from instruct_lab import files
from instruct_lab.errors import InstructLabError
from instruct_lab.files import user_path
from instruct_lab.records import RunRecord, Summary, list_runs
from instruct_lab.records.costs import COSTS, cost_of
from instruct_lab.records.entries import known_entries, wrap_form_errors
from instruct_lab.records.folder import has_manifest, is_locked, new_folder

FILE = "sweep.json"
DATABASE = "optuna.db"
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SweepInfo:
    """The content of `sweep.json`.

    Args:
        id: id of the sweep.
        name: name of the folder that holds the records of the sweep and of its runs.
        status: `running`, `finished` or `interrupted`.
        started: time in UTC, ISO 8601.
        ended: time in UTC, ISO 8601; `None` while the sweep runs.
        overrides: the overrides as typed.
        working_path: the working directory in which the sweep was started.
        fingerprint: SHA-256 of the settings that have to be the same when the sweep is resumed.
        metrics: the metrics to optimise.
        directions: `minimize` or `maximize`, for each metric.
        dimensions: the config groups and keys that vary.
        num_points: number of points to try; a point is a combination of values of the dimensions.
        seeds: number of runs of each point, which differ in their random seed.
        choices: the base config's chosen option for each config group.
        changes: what had changed in code, packages or settings when `--force` continued the sweep nevertheless.
    """

    id: str = ""
    name: str = ""
    status: Literal["running", "finished", "interrupted"] = "interrupted"
    started: str | None = None
    ended: str | None = None
    overrides: list[str] = dataclasses.field(default_factory=list)
    working_path: str = ""
    fingerprint: str = ""
    metrics: list[str] = dataclasses.field(default_factory=list)
    directions: list[str] = dataclasses.field(default_factory=list)
    dimensions: list[str] = dataclasses.field(default_factory=list)
    num_points: int = 0
    seeds: int = 1
    choices: dict[str, Any] = dataclasses.field(default_factory=dict)
    changes: list[str] = dataclasses.field(default_factory=list)

    @property
    def num_runs(self) -> int:
        """Number of runs that the sweep is to make: points times seeds."""
        return self.num_points * self.seeds

    @classmethod
    def from_json(cls, entries: dict[str, Any]) -> SweepInfo:
        """Create the object from the JSON object in `sweep.json`; JSON keys that are not fields are ignored."""
        return cls(**known_entries(cls, entries))


@dataclasses.dataclass(frozen=True)
class SweepRecord:
    """A sweep's folder `<runs_path>/<name>/<sweep id>/`, beside its runs' folders `<sweep id>-<point>[-s<seed>]`."""

    path: Path

    @property
    def id(self) -> str:
        """The id of the sweep, which is the name of its folder."""
        return self.path.name

    @property
    def info(self) -> SweepInfo:
        """The content of `sweep.json`, read at each access."""
        with wrap_form_errors(self.path / FILE):
            return SweepInfo.from_json(files.read_json(self.path / FILE) or {})

    @property
    def storage(self) -> str:
        """URL of the database that holds the sweep's Optuna study."""
        return f"sqlite:///{self.path / DATABASE}"

    @property
    def runs_path(self) -> Path:
        """The folder of all records."""
        return self.path.parent.parent

    def update(self, **entries: Any) -> None:
        """Write these values to `sweep.json` under their names; all other values in the file are kept."""
        with wrap_form_errors(self.path / FILE):
            known = dict(files.read_json(self.path / FILE) or {})
        files.write_json(self.path / FILE, {**known, **entries})

    def status(self) -> str:
        """Return `running`, `finished` or `interrupted`; a sweep whose process died is interrupted."""
        status = self.info.status
        return "interrupted" if status == "running" and not is_locked(self.path) else status

    def run_id(self, point: int, seed: int | None) -> str:
        """Return the id of one run of the sweep.

        Args:
            point: index of the run's point.
            seed: index of the run's seed; `None` if each point has only one run.
        """
        return f"{self.id}-{point:04d}" + ("" if seed is None else f"-s{seed}")

    def run_ids(self) -> list[str]:
        """Return the ids of the sweep's runs that have started, sorted by point and seed."""
        return sorted(path.parent.name for path in self.path.parent.glob(f"{self.id}-*/manifest.json"))

    def runs(self, ids: Iterable[str] | None = None) -> list[RunRecord]:
        """Return the records of the sweep's runs that have started; omit damaged records with a warning.

        Args:
            ids: ids of the runs, in the order in which their records are returned; `None`: all runs, ordered by id.
        """
        found = []
        for run_id in self.run_ids() if ids is None else ids:
            try:
                record = RunRecord.open(self.path.parent / run_id)
                _ = record.manifest, record.summary
            except (InstructLabError, OSError) as error:
                logger.warning("A damaged record is left out: %s", error)
            else:
                found.append(record)
        return found

    def finished_runs(self) -> list[RunRecord]:
        """Return the records of the sweep's runs whose status is `finished`."""
        return [run for run in self.runs() if run.manifest.status == "finished"]

    def measured_metric(self) -> str | None:
        """Return the first of the sweep's metrics that all finished runs have measured; `None` if there is none."""
        finished = self.finished_runs()
        measured = set.intersection(*map(_metrics_of, finished)) if finished else set()
        return next((name for name in self.info.metrics if name in measured), None)


def _metrics_of(run: RunRecord) -> set[str]:
    return set((run.summary or Summary()).metrics)


def create_sweep(runs_path: Path, name: str, **entries: Any) -> SweepRecord:
    """Create the folder of a new sweep.

    Args:
        runs_path: the folder of all records.
        name: name of the folder that holds the records of the sweep and of its runs.
        entries: values for the other fields of `SweepInfo`, such as `num_points`.
    """
    record = SweepRecord(new_folder(runs_path / name))
    record.update(id=record.id, name=name, status="running", started=datetime.now(UTC).isoformat(), **entries)
    return record


def sweeps(runs_path: Path) -> Iterator[SweepRecord]:
    """Yield the records of all sweeps below `runs_path`, from the oldest to the newest."""
    found = sorted(user_path(runs_path).absolute().glob(f"*/*/{FILE}"), key=lambda path: path.parent.name)
    yield from (SweepRecord(path.parent) for path in found)


def find_sweep(runs_path: Path, reference: str) -> SweepRecord | None:
    """Find the sweep that a user means; return `None` if no sweep matches.

    Args:
        runs_path: the folder of all records.
        reference: `latest` for the newest sweep; or the path of the sweep's folder; or text that identifies the sweep.
            The text is the sweep's id, the beginning of its id or of `<name>/<id>`, or all that follows a hyphen in
            its id.

    Raises:
        InstructLabError: several sweeps match.
    """
    folder = user_path(reference)
    if (folder / FILE).is_file():
        return SweepRecord(folder.absolute())
    found = list(sweeps(runs_path))
    if reference == "latest":
        return found[-1] if found else None
    wanted = reference.rstrip("/")
    exact = [sweep for sweep in found if wanted in (sweep.id, f"{sweep.path.parent.name}/{sweep.id}")]
    begins = exact or [
        sweep
        for sweep in found
        if wanted and (sweep.id.startswith(wanted) or f"{sweep.path.parent.name}/{sweep.id}".startswith(wanted))
    ]
    begins = begins or [sweep for sweep in found if wanted and sweep.id.endswith(f"-{wanted}")]
    if len(begins) > 1:
        raise InstructLabError(
            f"{len(begins)} sweeps match {reference!r}", where=str(runs_path), do="Type more of the id"
        )
    return begins[0] if begins else None


def sweep_to_resume(runs_path: Path, reference: str) -> SweepRecord | None:
    """Find the sweep that `instruct-lab resume` continues; return `None` if the command continues a single run.

    Args:
        runs_path: the folder of all records.
        reference: what the user typed. `latest` means the newest sweep, unless a run outside this sweep is newer.
    """
    if reference != "latest":
        is_run = has_manifest(user_path(reference))
        return None if is_run else find_sweep(runs_path, reference)
    sweep = find_sweep(runs_path, "latest")
    runs = list_runs(runs_path)
    newest = runs[-1].id if runs else ""
    return sweep if sweep is not None and (newest.startswith(sweep.id) or newest < sweep.id) else None


def final_value(record: RunRecord, metric: str, direction: str) -> float:
    """Return a run's value of a metric, by which a sweep compares this run with its other runs.

    For a cost, such as `training_seconds`, it is the run's cost. For a metric of the final results, it is the tuned
    model's value. For a metric that is measured only during training, it is the best value of all steps.

    Args:
        record: the run's record.
        metric: the metric, such as `val/loss`.
        direction: `minimize` or `maximize`, which decides which value is the best.

    Raises:
        InstructLabError: the run has no such value.
    """
    summary = record.summary or Summary()
    if metric in COSTS:
        cost = cost_of(record, metric)
        if cost is not None:
            return cost
    found = summary.value(metric)
    if found is not None:
        return float(found.value)
    logged = [line[metric] for line in record.read_metrics() if metric in line]
    finite = [value for value in logged if math.isfinite(value)]
    if finite:
        return min(finite) if direction == "minimize" else max(finite)
    known = sorted({*summary.metrics, *(name for line in record.read_metrics() for name in line if "/" in name)})
    raise InstructLabError(
        f"The run has no value of {metric}",
        where=f"run {record.id}, sweep.metric",
        do=f"choose one of: {', '.join([*known, *COSTS])}",
    )
