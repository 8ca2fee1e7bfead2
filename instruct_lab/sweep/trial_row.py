"""Read a row of a sweep's table from a run's record: the run's values, and what it is doing now."""

from __future__ import annotations

import dataclasses
from typing import Any

from instruct_lab.errors import InstructLabError, one_line
from instruct_lab.progress import format_seconds
from instruct_lab.records import RunRecord
from instruct_lab.records.run_settings import RunSettings
from instruct_lab.records.schema import RESULTS, SweepEntry
from instruct_lab.sweep.record import SweepInfo, final_value

MAX_MESSAGE = 28
ENDED = ("finished", "failed", "pruned")


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """A row of a sweep's table, which shows one run (trial).

    Args:
        id: id of the run.
        point: index of the run's point in the sweep.
        status: status of the run.
        activity: what a running run is doing now, or the error of a failed run; otherwise empty.
        settings: the run's options and config values that can change its results.
        step: the last optimizer step; `None` before the first.
        loss: the last training loss; `None` before the first.
        values: the run's value of each metric of the sweep; `None` for a metric that it has not measured yet.
        seconds: duration of the run so far.
    """

    id: str
    point: int
    status: str
    activity: str
    settings: RunSettings
    step: int | None
    loss: float | None
    values: tuple[float | None, ...]
    seconds: float


def read_trial(run: RunRecord, info: SweepInfo) -> TrialRow:
    """Read the table row of a run from the run's record.

    Args:
        run: the run's record.
        info: the content of the sweep's `sweep.json`.
    """
    manifest, lines = run.manifest, run.read_metrics()
    status = "interrupted" if run.is_process_gone else manifest.status or "running"
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    return TrialRow(
        id=run.id,
        point=(manifest.sweep or SweepEntry()).point,
        status=status,
        activity=_activity(run, status, lines),
        settings=_settings(run),
        step=int(lines[-1]["step"]) if lines else None,
        loss=losses[-1] if losses else None,
        values=tuple(_value(run, *pair) for pair in zip(info.metrics, info.directions, strict=True)),
        seconds=float(manifest.seconds or (lines[-1]["seconds"] if lines else 0.0)),
    )


def _settings(run: RunRecord) -> RunSettings:
    try:
        return RunSettings.read(run)
    except InstructLabError:  # a damaged config hides no trial
        return RunSettings()


def _value(run: RunRecord, metric: str, direction: str) -> float | None:
    try:
        return final_value(run, metric, direction)
    except InstructLabError:
        return None


def _activity(run: RunRecord, status: str, lines: list[dict[str, Any]]) -> str:
    """Return a text on what a running run is doing, or on the error of a failed run; an empty text for other runs."""
    manifest = run.manifest
    if status == "failed" and manifest.exception is not None:
        return one_line(f"{manifest.exception.type}: {manifest.exception.message}", MAX_MESSAGE)
    if status != "running":
        return ""
    steps = [line for line in lines if "train/loss" in line]
    if not (run.path / RESULTS["before"]).is_file():
        return "preparing the data" if manifest.data_fingerprint is None else "measuring the base model"
    if not steps or manifest.num_steps is None:
        return "starting to train"
    if steps[-1]["step"] >= manifest.num_steps:
        return "measuring the results"
    pace = (steps[-1]["seconds"] - steps[0]["seconds"]) / (len(steps) - 1) if len(steps) > 1 else 0.0
    left = f", {format_seconds(pace * (manifest.num_steps - steps[-1]['step']))} left" if pace else ""
    return f"step {steps[-1]['step']} of {manifest.num_steps}{left}"
