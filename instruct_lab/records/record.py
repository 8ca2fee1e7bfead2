"""The run record: one folder for each run, with its config, results, checkpoints and log."""

from __future__ import annotations

import copy
import functools
import math
import operator
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from instruct_lab import files, secrets
from instruct_lab.errors import InstructLabError
from instruct_lab.records import measurement, schema
from instruct_lab.records.config_file import read_yaml, to_yaml
from instruct_lab.records.earlier import translate
from instruct_lab.records.entries import has_type, wrap_form_errors
from instruct_lab.records.environment import environment
from instruct_lab.records.folder import check_name, empty_folder, is_locked, new_folder
from instruct_lab.records.identity import config_hash, settings_of
from instruct_lab.records.schema import STATUSES, Manifest, PredictionLine, Stage, Summary

NOT_VALUES = frozenset({"step", "epoch", "seconds"})
Read = TypeVar("Read")
Container = TypeVar("Container", dict[str, Any], list[str])


class RunRecord:
    """The folder `<runs_path>/<name>/<id>/` with one run's config, manifest, metrics, results, checkpoints and log.

    The record stays readable even if the process is killed while it writes: files are replaced as a whole or grow by
    whole lines. Only one process can write at a time; any number can read. `create` makes a new record, `open` opens an
    existing one. `instruct_lab.records.schema` defines the content of the files. Passwords and keys are masked in them
    (see `instruct_lab.secrets`), and if a command writes them, only the user can read them (see `instruct_lab.guard`).
    """

    is_writer: ClassVar[bool] = True
    """Whether this process writes the record; in other processes of the run, writing does nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name
        self.name = path.parent.name
        self._opened = time.monotonic()
        self._checked_ends: set[str] = set()

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
        """Create the folder of a new run, and write its config, overrides and manifest.

        Args:
            runs_path: the folder of all records; created if it is missing.
            name: name of the run, a folder below `runs_path`.
            config: the whole config, which is stored unchanged. Interpolations are resolved; it contains no secrets.
            overrides: the overrides that the user typed.
            run_id: id of the run, a folder below `name` (an incomplete record in it is removed); `None`: a new id.
            facts: additional entries of the manifest, such as `choices`, `seeds`, `config_hash` and `inputs`.

        Raises:
            InstructLabError: `name` is not a valid folder name, or the folder is not writable.
        """
        parent = Path(runs_path) / check_name(name)
        record = cls(new_folder(parent) if run_id is None else empty_folder(parent / run_id))
        record.write_config(config)
        record.write_overrides(overrides)
        record.write_manifest(
            id=record.id,
            name=record.name,
            status="running",
            started=datetime.now(UTC).isoformat(),
            ended=None,
            **{**environment(), **facts},
        )
        return record

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open the record in a folder.

        Raises:
            InstructLabError: the folder holds no record.
        """
        path = files.user_path(path).absolute()
        if not (path / schema.CONFIG).is_file() and not (path / schema.MANIFEST).is_file():
            raise InstructLabError(
                "This folder holds no run record", where=str(path), do="List them: instruct-lab runs"
            )
        return cls(path)

    # ---- read

    @property
    def manifest(self) -> Manifest:
        """The run's manifest, read from `manifest.json` at each access, or an empty manifest if there is no file."""
        return self._read(schema.MANIFEST, Manifest.from_json) or Manifest()

    @property
    def is_process_gone(self) -> bool:
        """Whether the status is still `running` although the run's process was killed."""
        return self.manifest.status == "running" and not is_locked(self.path)

    @property
    def status_text(self) -> str:
        """The status of the run, or `interrupted (process gone)` if its process was killed."""
        return (
            f"interrupted ({schema.PROCESS_GONE})" if self.is_process_gone else str(self.manifest.status or "unknown")
        )

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The recorded config; class names that have since changed are replaced by the current ones.

        A value from an environment variable is a string such as `${oc.env:NAME}`.
        """
        return dict(translate(self._read_yaml(schema.CONFIG, dict)))

    @property
    def overrides(self) -> list[str]:
        """The overrides that the user typed."""
        return self._read_yaml(schema.OVERRIDES, list)

    @property
    def summary(self) -> Summary | None:
        """The results of the run; `None` before it has finished."""
        return self._read(schema.SUMMARY, Summary.from_json)

    @property
    def checkpoints_path(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / schema.CHECKPOINTS

    def seconds(self) -> float:
        """Return the seconds since the run started, without the time between an interruption and the resumption."""
        return self._seconds_before + time.monotonic() - self._opened

    def read_json(self, name: str) -> Any:
        """Read one of the record's JSON files; return `None` if the file does not exist.

        Raises:
            InstructLabError: the file is not JSON, or is not readable.
        """
        return files.read_json(self.path / name)

    def read_results(self, stage: Stage) -> measurement.Results | None:
        """Read the results from `before.json` or `after.json`, as `stage` says; `None` if there is no such file."""
        return self._read(schema.RESULTS[stage], measurement.results_from_json)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Read `metrics.jsonl` as one dictionary per line; `null` becomes NaN, and damaged lines are left out."""
        return [
            {name: math.nan if value is None else value for name, value in line.items()}
            for line in files.read_lines(self.path / schema.METRICS)
            if "step" in line and has_type(line, dict[str, float | None])
        ]

    def read_predictions(self) -> list[PredictionLine]:
        """Read `predictions.jsonl`, which has one line for each example."""
        with wrap_form_errors(self.path / schema.PREDICTIONS):
            return [PredictionLine.from_json(line) for line in files.read_lines(self.path / schema.PREDICTIONS)]

    def _read(self, name: str, parse: Callable[[Mapping[str, Any]], Read]) -> Read | None:
        entries = self.read_json(name)
        if entries is None:
            return None
        with wrap_form_errors(self.path / name):
            return parse(entries)

    def _read_yaml(self, name: str, kind: type[Container]) -> Container:
        """Read a YAML file as a list or dictionary, which is empty if the file is empty or does not exist."""
        content = read_yaml(self.path / name)
        with wrap_form_errors(self.path / name):
            if content is not None and not isinstance(content, kind):
                raise TypeError(f"a {kind.__name__} is expected, and this is a {type(content).__name__}")
        return content or kind()

    # ---- write

    def write_manifest(self, **updates: Any) -> None:
        """Replace or add entries of `manifest.json`; a new status such as `finished` also sets `ended` and `seconds`.

        Raises:
            ValueError: the status is not one of `STATUSES`.
        """
        status = updates.get("status")
        if status is not None and status not in STATUSES:
            raise ValueError(f"status is one of {', '.join(STATUSES)}, not {status!r}")
        ending: dict[str, Any] = {}
        if status == "running":
            ending = {"ended": None, "exception": None}
        elif status is not None:
            ending = {"ended": datetime.now(UTC).isoformat(), "seconds": self.seconds()}
        known = self._read(schema.MANIFEST, dict) or {}
        self.write_json(schema.MANIFEST, {**known, **ending, **updates})

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the config to `config.yaml`, and those of its settings that can change results to `settings.json`."""
        self.write_text(schema.CONFIG, to_yaml(config))
        self.__dict__.pop("config", None)  # read again at the next access
        self.write_json(schema.SETTINGS, settings_of(self.config))

    def write_overrides(self, overrides: list[str]) -> None:
        """Write the overrides that the user typed to `overrides.yaml`."""
        self.write_text(schema.OVERRIDES, to_yaml(overrides))

    def derive(self, key: str, value: Any, origin: str) -> None:
        """Record a value that the run itself computes: write the value to the config and `origin` to the manifest.

        Args:
            key: full key of the value in the config, such as `trainer.max_steps`.
            value: the computed value.
            origin: text that says from what the value is computed.
        """
        config = copy.deepcopy(self.config)
        *groups, name = key.split(".")
        functools.reduce(operator.getitem, groups, config)[name] = value
        self.write_config(config)
        self.write_manifest(derived={**self.manifest.derived, key: origin}, config_hash=config_hash(config))

    def append_metrics(self, step: int, epoch: float, values: Mapping[str, Any]) -> None:
        """Add one line to `metrics.jsonl`.

        Args:
            step: optimizer step.
            epoch: number of passes over the training data so far.
            values: what was measured, keyed by `split/metric`; a number that is not finite is written as `null`.

        Raises:
            InstructLabError: the disk is full, or the file is not writable.
            ValueError: a value is named `step`, `epoch` or `seconds`.
        """
        if clash := NOT_VALUES & set(values):
            raise ValueError(f"these names are the line's own: {', '.join(sorted(clash))}")
        line = {"step": step, "epoch": epoch, "seconds": round(self.seconds(), 3), **values}
        self._append(schema.METRICS, files.to_json(line) + "\n")

    def metrics_size(self) -> int:
        """Return the size of `metrics.jsonl` in bytes; 0 if it does not exist."""
        return files.size_or_zero(self.path / schema.METRICS)

    def truncate_metrics(self, size: int) -> None:
        """Remove the lines of `metrics.jsonl` that were written after the checkpoint from which the run resumes.

        In the lines that follow, `seconds` continues from its value in the last kept line.

        Args:
            size: the size of `metrics.jsonl`, in bytes, when the checkpoint was written.
        """
        path = self.path / schema.METRICS
        if self.metrics_size() > size:
            with files.disk_errors(path):
                os.truncate(path, size)
        for left_behind in self.path.glob(f".*{files.TEMPORARY_SUFFIX}"):  # left by a killed process
            left_behind.unlink(missing_ok=True)
        kept = self.read_metrics()
        self._seconds_before = float(kept[-1].get("seconds", 0.0)) if kept else 0.0
        self._opened = time.monotonic()

    def write_json(self, name: str, value: Any) -> None:
        """Write `value` to a JSON file of the record; replace an existing file in one step (atomically)."""
        self.write_text(name, files.to_json(value, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write `text` to a file of the record; replace an existing file in one step (atomically)."""
        self._write(name, [text])

    def write_audit(self, audit: Mapping[str, Any]) -> None:
        """Write `audit.json`, which counts the rows that preprocessing changed, dropped or added."""
        self.write_json(schema.AUDIT, audit)

    def write_results(self, stage: Stage, results: measurement.Results) -> None:
        """Write the results of all systems to `before.json` or `after.json`, as `stage` says."""
        self.write_json(schema.RESULTS[stage], measurement.results_to_json(results))

    def write_summary(self, summary: Summary) -> None:
        """Write `summary.json`, which holds the final metrics with their intervals."""
        self.write_json(schema.SUMMARY, summary)

    def write_predictions(self, lines: Iterable[PredictionLine]) -> None:
        """Write `predictions.jsonl`, with one line for each example."""
        self._write(schema.PREDICTIONS, (files.to_json(line) + "\n" for line in lines))

    def log(self, text: str) -> None:
        """Append the time and `text` as a line to `log.txt`; strings that look like keys or passwords are masked."""
        self._append(schema.LOG, f"{datetime.now(UTC).isoformat(timespec='seconds')} {secrets.hide_forms(text)}\n")

    def add_warning(self, text: str) -> None:
        """Add a warning about the run to the manifest and to `log.txt`, unless the manifest already contains it."""
        known = self.manifest.warnings
        if text not in known:
            self.write_manifest(warnings=[*known, text])
            self.log(f"warning: {text}")

    def write_failure(self, exception: BaseException) -> None:
        """Record that the run failed, with the traceback in `manifest.json` and `log.txt`."""
        text = secrets.hide_forms("".join(traceback.format_exception(exception)))
        entry = schema.ExceptionEntry(type(exception).__name__, secrets.hide_forms(str(exception)), text)
        self.write_manifest(status="failed", exception=entry)
        self.log(text.rstrip())

    def _write(self, name: str, chunks: Iterable[str]) -> None:
        files.write_atomically(self.path / name, chunks)

    def _append(self, name: str, text: str) -> None:
        if name not in self._checked_ends:
            files.drop_torn_end(self.path / name)
            self._checked_ends.add(name)
        files.append_text(self.path / name, text)

    @functools.cached_property
    def _seconds_before(self) -> float:
        """The duration of the run in seconds before this process opened the record, according to the record."""
        try:
            ended = self.manifest.seconds
        except InstructLabError:
            ended = None
        lines = self.read_metrics()
        return max(float(ended or 0.0), float(lines[-1].get("seconds", 0.0)) if lines else 0.0)


class ReadOnlyRecord(RunRecord):
    """A record that another process writes; reading works as usual, but writing does nothing.

    In a multi-device run, all ranks except the first use this class.
    """

    is_writer = False

    def truncate_metrics(self, size: int) -> None:
        """Do nothing, because the process that writes the record truncates the file."""

    def _write(self, name: str, chunks: Iterable[str]) -> None:
        pass

    def _append(self, name: str, text: str) -> None:
        pass
