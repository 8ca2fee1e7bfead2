"""A sweep's own folder, which stands beside the records of its runs; and what these records tell of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instruct_lab import files
from instruct_lab.errors import InstructLabError
from instruct_lab.records import RunRecord, Summary, list_runs
from instruct_lab.records.costs import COSTS, cost_of
from instruct_lab.records.folder import has_manifest, is_locked, new_folder

FILE = "sweep.json"
DATABASE = "optuna.db"


@dataclasses.dataclass(frozen=True)
class SweepRecord:
    """`<runs_path>/<name>/<sweep id>/`; each run's record stands at `<sweep id>-<point>[-s<seed>]` beside it."""

    path: Path

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def told(self) -> dict[str, Any]:
        """The content of `sweep.json`."""
        return dict(files.read_json(self.path / FILE) or {})

    @property
    def storage(self) -> str:
        """URL of the Optuna study."""
        return f"sqlite:///{self.path / DATABASE}"

    @property
    def runs_path(self) -> Path:
        """The folder of all records."""
        return self.path.parent.parent

    def update(self, **entries: Any) -> None:
        """Replace or add entries of `sweep.json`."""
        files.write_json(self.path / FILE, {**self.told, **entries})

    def status(self) -> str:
        """`running`, `finished` or `interrupted`; a sweep whose process died is interrupted too."""
        status = str(self.told.get("status", "interrupted"))
        return "interrupted" if status == "running" and not is_locked(self.path) else status

    def run_id(self, point: int, seed: int | None) -> str:
        """The id of a run's record."""
        return f"{self.id}-{point:04d}" + ("" if seed is None else f"-s{seed}")

    def runs(self) -> list[RunRecord]:
        """The records of the sweep's runs that were begun, in order."""
        found = sorted(self.path.parent.glob(f"{self.id}-*/manifest.json"))
        return [RunRecord.open(manifest.parent) for manifest in found]

    def finished_runs(self) -> list[RunRecord]:
        """Those that ended with results."""
        return [run for run in self.runs() if run.manifest.status == "finished"]

    def measured_metric(self) -> str | None:
        """The first of the metrics that the sweep looks for which its runs were measured by at their end."""
        finished = self.finished_runs()
        measured = set.intersection(*map(_measures, finished)) if finished else set()
        return next((name for name in self.told.get("metrics", []) if name in measured), None)


def _measures(run: RunRecord) -> set[str]:
    return set((run.summary or Summary()).metrics)


def create(runs_path: Path, name: str, **entries: Any) -> SweepRecord:
    """The folder of a new sweep."""
    record = SweepRecord(new_folder(runs_path / name))
    record.update(id=record.id, name=name, status="running", started=datetime.now(UTC).isoformat(), **entries)
    return record


def sweeps(runs_path: Path) -> Iterator[SweepRecord]:
    """Every sweep, the oldest first."""
    found = sorted(runs_path.expanduser().absolute().glob(f"*/*/{FILE}"), key=lambda path: path.parent.name)
    yield from (SweepRecord(path.parent) for path in found)


def find_sweep(runs_path: Path, reference: str) -> SweepRecord | None:
    """The sweep that a folder, an id, or a unique beginning of an id or of `name/id` names; none if there is none.

    Raises:
        InstructLabError: several sweeps go by it.
    """
    folder = Path(reference).expanduser()
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
    if len(begins) > 1:
        raise InstructLabError(
            f"{len(begins)} sweeps go by {reference!r}", where=str(runs_path), do="Type more of the id"
        )
    return begins[0] if begins else None


def sweep_to_resume(runs_path: Path, reference: str) -> SweepRecord | None:
    """The sweep that `instruct-lab resume` goes on with; none where the reference is a run's.

    `latest` is the sweep of the latest run, where that belongs to one.
    """
    if reference != "latest":
        is_run = has_manifest(Path(reference).expanduser())
        return None if is_run else find_sweep(runs_path, reference)
    sweep = find_sweep(runs_path, "latest")
    runs = list_runs(runs_path)
    newest = runs[-1].id if runs else ""
    return sweep if sweep is not None and (newest.startswith(sweep.id) or newest[:15] < sweep.id[:15]) else None


def final_value(record: RunRecord, metric: str, direction: str) -> float:
    """What a finished run came to by one metric.

    A metric of the results is the tuned model's; a value that is logged in validation alone is the best of the run.

    Raises:
        InstructLabError: the run tells no such value.
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
    told = sorted({*summary.metrics, *(name for line in record.read_metrics() for name in line if "/" in name)})
    raise InstructLabError(
        f"The run tells no {metric}",
        where=f"run {record.id}, sweep.metric",
        do=f"choose one of: {', '.join([*told, *COSTS])}",
    )
