"""The run record: one folder a run, with everything that happened in it."""

from __future__ import annotations

import functools
import math
import os
import re
import secrets
import shutil
import time
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instruct_lab import files
from instruct_lab.errors import InstructLabError
from instruct_lab.records import manifest
from instruct_lab.records.earlier import translate

STATUSES = ("running", "finished", "failed", "interrupted", "pruned")
LOCK = ".lock"
MAX_NAME_BYTES = 200
NOT_VALUES = frozenset({"step", "epoch", "seconds"})


class RunRecord:
    """`<runs_path>/<name>/<id>/`: config, manifest, metrics, results, checkpoints and log of one run.

    Whatever is written can be read after a crash at any byte: files are replaced whole, or grow by whole lines. One
    process writes at a time; any number may read. Create with `RunRecord.create`, come back with `RunRecord.open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.name = path.parent.name
        self._seconds_before = self._recorded_seconds()
        self._opened = time.monotonic()
        self._end_checked = False

    # ---- create and open

    @classmethod
    def create(
        cls,
        runs_path: str | Path,
        name: str,
        config: Mapping[str, Any],
        overrides: list[str],
        run_id: str | None = None,
        **facts: Any,
    ) -> RunRecord:
        """Make the folder of a new run and say in it what the run is.

        Args:
            runs_path: the folder of all records; made where it is missing.
            name: the folder of this run's records.
            config: the whole config, resolved; `config.yaml` replays it as it is.
            overrides: what the user typed.
            run_id: the folder below it; null: a new one. What a crash left of a record by this id goes.
            facts: further entries of `manifest.json`, such as `choices`, `seeds`, `config_hash`, `inputs`.

        Raises:
            InstructLabError: the name cannot be a folder's, or the folder cannot be written.
        """
        parent = Path(runs_path) / _checked_name(name)
        path = new_folder(parent) if run_id is None else _own_folder(parent / run_id)
        record = cls(path)
        files.write_atomically(path / "config.yaml", [_config_yaml(config)])
        files.write_atomically(path / "overrides.yaml", [_config_yaml(overrides)])
        record.write_manifest(
            id=record.id,
            name=record.name,
            status="running",
            started=datetime.now(UTC).isoformat(),
            ended=None,
            **{**manifest.environment(), **facts},
        )
        return record

    @classmethod
    def open(cls, path: str | Path) -> RunRecord:
        """The record in a folder.

        Raises:
            InstructLabError: the folder holds none.
        """
        path = Path(path).expanduser().absolute()
        if not (path / "config.yaml").is_file() and not (path / "manifest.json").is_file():
            raise InstructLabError(
                "This folder holds no run record", where=str(path), do="List them: instruct-lab runs"
            )
        return cls(path)

    # ---- what it says

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of `manifest.json`, read anew; empty where there is none."""
        return self.read_json("manifest.json") or {}

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The resolved config, with the names that its classes have now; it is written once, and read once."""
        return dict(translate(_loaded_yaml(self.path / "config.yaml") or {}))

    @property
    def overrides(self) -> list[str]:
        """What the user typed."""
        return list(_loaded_yaml(self.path / "overrides.yaml") or [])

    @property
    def summary(self) -> dict[str, Any] | None:
        """The content of `summary.json`; none before the run has ended."""
        summary: dict[str, Any] | None = self.read_json("summary.json")
        return summary

    @property
    def checkpoints_path(self) -> Path:
        """Where checkpoints are."""
        return self.path / "checkpoints"

    def seconds(self) -> float:
        """Seconds since the run started; a resumed run goes on from where its kept steps ended."""
        return self._seconds_before + time.monotonic() - self._opened

    def read_json(self, name: str) -> Any:
        """One of the record's documents; none where it was not written.

        Raises:
            InstructLabError: it is not JSON, or cannot be read.
        """
        return files.read_json(self.path / name)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a value that was not finite is `nan`, a torn last line is left out."""
        return [
            {name: math.nan if value is None else value for name, value in line.items()}
            for line in files.read_lines(self.path / "metrics.jsonl")
        ]

    def read_predictions(self) -> list[dict[str, Any]]:
        """The lines of `predictions.jsonl`."""
        return files.read_lines(self.path / "predictions.jsonl")

    # ---- what is written

    def write_manifest(self, **updates: Any) -> None:
        """Replace or add entries of `manifest.json`; a status that ends the run also says when.

        Raises:
            ValueError: the status is none of `STATUSES`.
        """
        status = updates.get("status")
        if status is not None and status not in STATUSES:
            raise ValueError(f"status is one of {', '.join(STATUSES)}, not {status!r}")
        ending: dict[str, Any] = {}
        if status == "running":
            ending = {"ended": None, "exception": None}
        elif status is not None:
            ending = {"ended": datetime.now(UTC).isoformat(), "seconds": self.seconds()}
        self.write_json("manifest.json", {**self.manifest, **ending, **updates})

    def append_metrics(self, step: int, epoch: float, values: Mapping[str, Any]) -> None:
        """Add one line to `metrics.jsonl`.

        Args:
            step: optimizer step.
            epoch: passes over the training data.
            values: by `split/metric`; one that is not finite is written as `null`.

        Raises:
            InstructLabError: the disk is full, or the file cannot be written.
            ValueError: a value is called `step`, `epoch` or `seconds`.
        """
        if clash := NOT_VALUES & set(values):
            raise ValueError(f"these names are the line's own: {', '.join(sorted(clash))}")
        path = self.path / "metrics.jsonl"
        if not self._end_checked:
            files.drop_torn_end(path)
            self._end_checked = True
        line = {"step": step, "epoch": epoch, "seconds": round(self.seconds(), 3), **values}
        files.append_text(path, files.to_json(line) + "\n")

    def truncate_metrics(self, after_step: int) -> None:
        """Keep the lines up to a step, as a run that goes on from there needs; its clock goes on from the last one."""
        path = self.path / "metrics.jsonl"
        kept = [line for line in files.read_lines(path) if line.get("step", 0) <= after_step]
        if path.is_file():
            files.write_atomically(path, (files.to_json(line) + "\n" for line in kept))
        for left_behind in self.path.glob(f".*{files.TEMPORARY_SUFFIX}"):  # by a process that was killed
            left_behind.unlink(missing_ok=True)
        self._end_checked = True
        self._seconds_before = float(kept[-1].get("seconds", 0.0)) if kept else 0.0
        self._opened = time.monotonic()

    def write_json(self, name: str, value: Any) -> None:
        """Write one document into the record, whole or not at all."""
        files.write_json(self.path / name, value)

    def write_audit(self, audit: Mapping[str, Any]) -> None:
        """Write `audit.json`: what happened to every row."""
        self.write_json("audit.json", audit)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file of the record, whole or not at all."""
        files.write_atomically(self.path / name, [text])

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`: the final metrics with their intervals."""
        self.write_json("summary.json", summary)

    def write_predictions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write `predictions.jsonl`, one object an example."""
        files.write_atomically(self.path / "predictions.jsonl", (files.to_json(row) + "\n" for row in rows))

    def log(self, text: str) -> None:
        """Add to `log.txt`, after the time."""
        files.append_text(self.path / "log.txt", f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")

    def failed(self, exception: BaseException) -> None:
        """Say that the run failed, and why: the traceback goes to `manifest.json` and `log.txt`."""
        told = "".join(traceback.format_exception(exception))
        exception_entry = {"type": type(exception).__name__, "message": str(exception), "traceback": told}
        self.write_manifest(status="failed", exception=exception_entry)
        self.log(told.rstrip())

    def _recorded_seconds(self) -> float:
        try:
            ended = (files.read_json(self.path / "manifest.json") or {}).get("seconds")
        except (InstructLabError, AttributeError):
            ended = None
        lines = files.read_lines(self.path / "metrics.jsonl")
        return max(float(ended or 0.0), float(lines[-1].get("seconds", 0.0)) if lines else 0.0)


def _checked_name(name: str) -> str:
    wrong = not name or name.startswith((".", " ")) or re.search(r"[/\\\0-\x1f]", name)
    if wrong or len(name.encode()) > MAX_NAME_BYTES:
        raise InstructLabError(
            f"A run cannot be named {name!r}: its name is one folder's",
            where="name",
            do="Leave out slashes and a leading dot, and keep it below 200 bytes",
        )
    return name


def is_locked(path: Path) -> bool:
    """Whether a process is writing the record, or the sweep, in a folder."""
    return files.is_locked(path / LOCK)


def _own_folder(path: Path) -> Path:
    """A folder for one record, empty of what was never a whole one."""
    if (path / "manifest.json").is_file():
        raise InstructLabError("There is a run record here already", where=str(path), do="Resume it, or remove it")
    shutil.rmtree(path, ignore_errors=True)
    with files.disk_errors(path):
        path.mkdir(parents=True)
    return path.absolute()


def new_folder(parent: Path) -> Path:
    """A new folder that no other process has: time in UTC, then chance."""
    with files.disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            path = parent.absolute() / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
            try:
                os.mkdir(path)
            except FileExistsError:
                continue
            return path


def _config_yaml(config: Any) -> str:
    """YAML that OmegaConf reads back as the same values: texts that look like numbers or interpolations stay texts."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(_escaped(config)), resolve=False)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, Mapping):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(inner) for inner in value]
    return value


def _loaded_yaml(path: Path) -> Any:
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        return None
    except Exception as error:
        raise InstructLabError(f"This file of a run record cannot be read ({error})", where=str(path)) from error
