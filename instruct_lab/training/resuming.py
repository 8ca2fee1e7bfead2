"""Check whether a stopped run may continue, and extend a run to more steps.

A run may continue if its settings, inputs and code are unchanged, or if the user forces it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from instruct_lab import files
from instruct_lab.callbacks.training_states import newest_state
from instruct_lab.config.environment_values import to_omegaconf, to_plain_config
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.check import check_config
from instruct_lab.files import user_path
from instruct_lab.lr_scheduler import LRScheduler
from instruct_lab.records import RunRecord
from instruct_lab.records.changes import code_changes, input_changes, machine_changes, setting_changes
from instruct_lab.records.continuations import Change, Continuation
from instruct_lab.records.environment import environment
from instruct_lab.records.folder import LOCK
from instruct_lab.records.identity import config_hash
from instruct_lab.records.schema import BEFORE, RESULTS, SUMMARY, InputEntry
from instruct_lab.training.processes import divide_steps

LIMITS = ("max_epochs", "max_steps")
"""The trainer's arguments that limit the length of a run, and that `resume` can raise."""


def continue_record(
    experiment: Experiment,
    config: dict[str, Any],
    record: RunRecord,
    limits: Mapping[str, int],
    force: bool,
    devices: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Experiment, dict[str, Any], list[str]]:
    """Check that a run can continue, and write to its record what has changed since it last ran.

    Args:
        experiment: the components of the run, built from the recorded config.
        config: the recorded config.
        record: the record of the run.
        limits: new values of the trainer's `max_epochs` and `max_steps`; empty: the run keeps its length.
        force: whether to continue even if something has changed that affects the results.
        devices: new values of the trainer's arguments that choose the devices.

    Returns:
        The experiment and the config with the new limits and devices, and lines for the console that list the changes.

    Raises:
        InstructLabError: the run is finished and `limits` is empty, something that affects the results has changed and
            `force` is false, the new limits do not make the run longer, or its steps cannot be divided over the new
            devices.
    """
    manifest = record.manifest
    if manifest.status == "finished" and not limits:
        raise InstructLabError(
            f"Run {record.id} is finished",
            do=f"make it longer with `instruct-lab resume {record.id} trainer.max_epochs=N`, or start a new run",
        )
    changes = [*setting_changes(record), *input_changes(record, inputs_of(experiment, record)), *code_changes(record)]
    if changes and not force:
        raise InstructLabError(
            f"The run would not go on as it started, because this has changed: {'; '.join(map(str, changes))}",
            where=f"run {record.id}",
            do="undo the changes, start a new run, or add --force to go on and record them",
        )
    note, elsewhere = "", machine_changes(record)
    if devices:
        before, now = record.config["trainer"], {**record.config["trainer"], **devices}
        elsewhere += [Change("machine", f"trainer.{name}", before.get(name), now[name]) for name in devices]
        built = to_omegaconf({**copy.deepcopy(record.config), "trainer": now})
        experiment, config = check_config(built, record.path.parent.parent), to_plain_config(built)
        if isinstance(now.get("devices"), int) and now["devices"] > 0:  # else known when the trainer is built
            divide_steps(experiment, manifest.num_devices, now["devices"] * int(now.get("num_nodes") or 1))
    if limits:
        experiment, config, note = _extend(config, record, limits, force)
        before, now = record.config["trainer"], config["trainer"]
        names = [name for name in LIMITS if before.get(name) != now.get(name)]
        changes += [Change("limit", f"trainer.{name}", before.get(name), now.get(name)) for name in names]
    if not changes and not elsewhere:
        return experiment, config, []
    state, _ = newest_state(record.checkpoints_path)
    entry = Continuation(datetime.now(UTC).isoformat(), state.step, [*changes, *elsewhere], note)
    with files.lock(record.path / LOCK, "writing this run"):
        _record(record, config, entry, forced=any(change.kind != "limit" for change in changes))
    kinds = {"limit": "longer", "machine": "another machine, which can change the last digits"}
    lines = [f"{kinds.get(change.kind, 'changed')}: {change}" for change in entry.changes]
    return experiment, config, [*lines, *([note] if note else [])]


def inputs_of(experiment: Experiment, record: RunRecord) -> list[InputEntry]:
    """Return the files and packages that a run would read now; if its record lists no inputs, return an empty list."""
    if not record.manifest.inputs:
        return []
    cache_path = user_path(experiment.cache_path)
    found = [*experiment.data.inputs(cache_path), *experiment.model.inputs(cache_path)]
    return [InputEntry(one.name, one.sha256, one.bytes) for one in found]


def _record(record: RunRecord, config: dict[str, Any], entry: Continuation, forced: bool) -> None:
    """Write to the record that the run continues, with its current config and environment.

    Args:
        record: the record of the run.
        config: the config with which the run continues.
        entry: the changes since the run last ran.
        forced: whether something has changed that affects the results; the base model is then measured again.
    """
    if forced:  # the data may be other data, and the base model may be measured in another way
        record.write_manifest(data_fingerprint=None)
        (record.path / RESULTS[BEFORE]).unlink(missing_ok=True)
    limits = [f"{change.name}={change.now}" for change in entry.changes if change.kind == "limit"]
    if limits:
        kept = [text for text in record.overrides if text.lstrip("+").partition("=")[0] not in _names(limits)]
        record.write_overrides([*kept, *(f"++{text}" for text in limits)])
        (record.path / SUMMARY).unlink(missing_ok=True)  # the results of the shorter run
    record.write_config(config)
    continuations = [*record.manifest.continuations, entry]
    record.write_manifest(**environment(), config_hash=config_hash(config), continuations=continuations)


def _names(overrides: Sequence[str]) -> list[str]:
    return [text.partition("=")[0] for text in overrides]


def _extend(
    config: dict[str, Any], record: RunRecord, limits: Mapping[str, int], force: bool
) -> tuple[Experiment, dict[str, Any], str]:
    """Build the experiment with higher limits on the length of the run.

    Returns:
        The experiment, its config, and a note. The note says how learning rates of finished steps differ from those of
        a run that had the new length from its start; it is empty if they do not differ.

    Raises:
        InstructLabError: the run is part of a sweep, the new limits do not make it longer, or they would change the
            learning rates of finished steps and `force` is false.
    """
    manifest, config = record.manifest, copy.deepcopy(config)
    typed = " ".join(f"trainer.{name}={value}" for name, value in limits.items())
    if manifest.sweep is not None:
        raise InstructLabError(
            "The run is a trial of a sweep, which compares runs of one length",
            where=f"run {record.id}, sweep {manifest.sweep.id}",
            do=f"start a new run with the trial's overrides and {typed}",
        )
    config["trainer"] = {**config["trainer"], **limits}
    before, now = manifest.num_steps, _num_steps(config["trainer"], manifest.steps_per_epoch)
    if before is not None and now is not None and now <= before:
        raise InstructLabError(
            f"The run has {before:,} steps, and would have {now:,} with {typed}: the limits can only be raised",
            where=f"run {record.id}",
            do="raise both if trainer.max_epochs and trainer.max_steps are set, or start a new run",
        )
    built = to_omegaconf(config)
    experiment = check_config(built, record.path.parent.parent)
    note = ""
    state, _ = newest_state(record.checkpoints_path)
    if state.step and before is not None and now is not None:
        note = _schedule_note(experiment.lr_scheduler, state.step, before, now)
    if note and not force:
        constant = "a constant schedule with lr_scheduler.warmup_steps, not warmup_ratio, can be extended exactly"
        raise InstructLabError(
            note, where="lr_scheduler", do=f"start a new run with {typed}, or add --force to go on; {constant}"
        )
    return experiment, to_plain_config(built), note


def _num_steps(trainer: Mapping[str, Any], steps_per_epoch: int | None) -> int | None:
    """Compute the length of a run in optimizer steps.

    The result is `None` if the run ended before its data was prepared, or if it has no limit on its length.
    """
    if steps_per_epoch is None:
        return None
    per_unit = {"max_epochs": steps_per_epoch, "max_steps": 1}
    bounds = [trainer[name] * factor for name, factor in per_unit.items() if trainer.get(name) not in (None, -1)]
    return min(bounds, default=None)


def _schedule_note(schedule: LRScheduler, done: int, before: int, now: int) -> str:
    """Describe how the learning rates of the finished steps differ from those of a run that began with the new length.

    The text is empty if they do not differ.

    Args:
        schedule: the learning-rate schedule.
        done: number of optimizer steps that are finished in the training state from which the run continues.
        before: number of optimizer steps that the run had before its extension.
        now: number of optimizer steps of the longer run.
    """
    other = [step for step in range(done) if schedule.factor(step, before) != schedule.factor(step, now)]
    if not other:
        return ""
    step = other[0]
    return (
        f"The learning rates of {len(other):,} of the {done:,} finished steps are not those of a run of {now:,} steps "
        f"(step {step + 1}: {schedule.factor(step, before):.3g} of the peak instead of {schedule.factor(step, now):.3g}"
        f"), and after step {done:,} the rate goes from {schedule.factor(done - 1, before):.3g} to "
        f"{schedule.factor(done, now):.3g} of the peak: the result is not that of an undisturbed run"
    )
