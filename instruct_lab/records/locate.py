"""Find the run that a user means by a reference such as `latest` or part of an id, and list all runs."""

from __future__ import annotations

import bisect
import dataclasses
import difflib
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.files import user_path
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import BEFORE, CONFIG, MANIFEST, PROCESS_GONE, Summary, SweepEntry

NUM_CANDIDATES = 3
DAMAGED = "damaged"
TIME = re.compile(r"\d{8}-\d{6}-(?=.)")
"""The beginning of a generated id: the time in UTC."""


@dataclasses.dataclass(frozen=True)
class ListedRun:
    """One run in the list of runs, an entry of `instruct-lab runs --json`.

    Args:
        id: id of the run.
        name: name of the run, the folder above its record.
        status: status of the run, such as `finished`; `damaged` if the record cannot be read.
        path: folder of the record.
        choices: the chosen option of each config group.
        metrics: final value of each metric, keyed by `split/metric`: the tuned model's or, if it was not measured, the
            base model's; `None` for a value that is not finite.
        note: `process gone` if the run's process was killed; for a damaged record, the damaged file; otherwise empty.
        started: time in UTC, in ISO 8601; `None` for a damaged record.
        summary: the results of the run; `None` before it has finished.
        sweep: the trial of a sweep that the run belongs to; `None` if it belongs to none.
    """

    id: str
    name: str
    status: str
    path: Path
    choices: dict[str, Any] = dataclasses.field(default_factory=dict)
    metrics: dict[str, float | None] = dataclasses.field(default_factory=dict)
    note: str = ""
    started: str | None = None
    summary: Summary | None = dataclasses.field(default=None, repr=False)
    sweep: SweepEntry | None = dataclasses.field(default=None, repr=False)

    @property
    def status_text(self) -> str:
        """The status, followed by the note if there is one."""
        return f"{self.status} ({self.note})" if self.note else self.status

    def to_json(self) -> dict[str, Any]:
        """Convert the entry to a dictionary for JSON, without `summary`, `sweep` and an empty `note`."""
        left_out = {"summary", "sweep"} if self.note else {"summary", "sweep", "note"}
        return {**{name: value for name, value in vars(self).items() if name not in left_out}, "path": str(self.path)}


def find_run(runs_path: str | Path, reference: str | Path) -> RunRecord:
    """Find the record of the run that a user means.

    Args:
        runs_path: the folder of all records.
        reference: one of: the folder of the record; an id; the beginning of an id or of `name/id`; the part of an id
            after one of its hyphens; `latest`. It must fit only one run.

    Raises:
        InstructLabError: no run or several runs match; the message names the most similar or the newest runs.
    """
    reference = str(reference)
    folder = user_path(reference)
    if _is_record(folder):
        return RunRecord.open(folder)
    paths = _record_paths(user_path(runs_path))
    if not paths:
        raise InstructLabError("There are no runs yet", where=str(runs_path), do="Start one: instruct-lab train")
    if reference == "latest":
        return RunRecord.open(max(paths, key=_start_order))
    wanted = reference.rstrip("/")
    names = {path: f"{path.parent.name}/{path.name}" for path in paths}
    exact = [path for path in paths if wanted in (path.name, names[path])]
    found = exact or [path for path in paths if path.name.startswith(wanted) or names[path].startswith(wanted)]
    found = found or [path for path in paths if path.name.endswith(f"-{wanted}")]
    if len(found) == 1 and wanted:
        return RunRecord.open(found[0])
    if found:
        newest = ", ".join(names[path] for path in sorted(found, key=_start_order, reverse=True)[:NUM_CANDIDATES])
        raise InstructLabError(
            f"{len(found)} runs match {reference!r}; the newest are {newest}",
            where=str(runs_path),
            do="Type more of the id, or latest",
        )
    nearest = ", ".join(_nearest(wanted, paths, names))
    raise InstructLabError(
        f"No run matches {reference!r}; the most similar are {nearest}",
        where=str(runs_path),
        do="List them: instruct-lab runs",
    )


def short_ids(runs: Sequence[ListedRun]) -> dict[str, str]:
    """Return a short reference to each run, which users can type instead of the run's id, keyed by id.

    The reference is the id without the time at its beginning, such as `0f3a27` for `20260131-142530-0f3a27`. If this is
    not unique, the reference is the whole id.

    Args:
        runs: all runs.
    """
    ids = [run.id for run in runs]
    ends = Counter(name[index + 1 :] for name in ids for index, sign in enumerate(name) if sign == "-")
    beginnings = sorted([*ids, *(run.name for run in runs)])

    def is_unique(end: str) -> bool:
        index = bisect.bisect_left(beginnings, end)
        return ends[end] == 1 and not any(name.startswith(end) for name in beginnings[index : index + 1])

    cut = {name: TIME.sub("", name) for name in ids}
    return {name: end if is_unique(end) else name for name, end in cut.items()}


def list_runs(runs_path: str | Path) -> list[ListedRun]:
    """List all runs, oldest first; a record that cannot be read has the status `damaged`."""
    paths = sorted(_record_paths(user_path(runs_path)), key=_start_order)
    return [list_run(path) for path in paths]


def list_run(path: Path) -> ListedRun:
    """Return the entry of one run in the list of runs; its status is `damaged` if the record cannot be read.

    Args:
        path: folder of the run's record.
    """
    names = path.name, path.parent.name
    try:
        record = RunRecord.open(path)
        manifest, summary = record.manifest, record.summary
        is_gone = record.is_process_gone
    except InstructLabError as error:
        return ListedRun(*names, DAMAGED, path, note=Path(error.where).name)
    except OSError as error:
        return ListedRun(*names, DAMAGED, path, note=one_line(error))
    if manifest.status is None:
        return ListedRun(*names, DAMAGED, path, note=MANIFEST)
    status, note = ("interrupted", PROCESS_GONE) if is_gone else (manifest.status, "")
    values = _final_values(summary or Summary())
    return ListedRun(*names, status, path, manifest.choices, values, note, manifest.started, summary, manifest.sweep)


def _final_values(summary: Summary) -> dict[str, float | None]:
    """Return the value of each metric for the tuned model or, if it was not measured, for the base model.

    A value that is not finite becomes `None`.
    """
    values = {}
    for name in summary.metrics:
        final = summary.value(name) or summary.value(name, BEFORE)
        if final is not None:
            values[name] = final.value if math.isfinite(final.value) else None
    return values


def _is_record(path: Path) -> bool:
    return (path / MANIFEST).is_file() or (path / CONFIG).is_file()


def _record_paths(runs_path: Path) -> list[Path]:
    return sorted(path for path in runs_path.absolute().glob("*/*") if _is_record(path))


def _start_order(path: Path) -> tuple[str, float, str]:
    """Return a key that sorts runs by start: the time in the id, then the time when the config was written."""
    try:
        written = os.stat(path / CONFIG).st_mtime_ns
    except OSError:
        written = 0
    return path.name[: len("20260101-000000")], written, path.name


def _nearest(wanted: str, paths: list[Path], names: dict[Path, str]) -> list[str]:
    """Return `name/id` of the runs whose id or name is most similar to `wanted`, at most `NUM_CANDIDATES` of them.

    The most similar run comes first; of equally similar runs, the newest.

    Args:
        wanted: the text that a user typed.
        paths: folders of all records.
        names: `name/id` of each run, keyed by folder.
    """
    word = wanted.rpartition("/")[2] or wanted

    def similarity(path: Path) -> float:
        return max(
            difflib.SequenceMatcher(None, word, known[: max(len(word), 8)]).ratio()
            for known in (path.name, path.name[16:], path.parent.name, names[path])
        )

    newest_first = sorted(paths, key=_start_order, reverse=True)
    return [names[path] for path in sorted(newest_first, key=similarity, reverse=True)[:NUM_CANDIDATES]]
