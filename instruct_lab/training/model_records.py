"""Records of models that no run of this package trained: a model folder, a GGUF file or a repository of the Hub."""

from __future__ import annotations

import contextlib
import dataclasses

from instruct_lab.callbacks.kept_weights import keep_weights
from instruct_lab.config.references import parse_reference
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment.check import Checked
from instruct_lab.files import user_path
from instruct_lab.records import RunRecord, Summary
from instruct_lab.records.folder import has_manifest
from instruct_lab.records.identity import config_hash
from instruct_lab.records.schema import InputEntry
from instruct_lab.tuning.prompting import write_marker

UNCHANGED = ("tuning=zero_shot", "tracker=none", "evaluation.before=false")
"""The overrides with which an unchanged model is recorded: nothing is trained, and no other model is measured."""


def model_reference(target: str) -> str | None:
    """Return a reference to a model, such as `path:DIR`, from what a user typed; `None` if that names no model.

    Args:
        target: the typed text: a reference, or the path of a GGUF file or of a folder with a `config.json`.
    """
    if parse_reference("model", target) is not None:
        return target
    path = user_path(target)
    is_model = (path / "config.json").is_file() or (path.is_file() and path.suffix.casefold() == ".gguf")
    return f"path:{target}" if is_model and not has_manifest(path) else None


def record_of_model(reference: str, checked: Checked) -> RunRecord:
    """Return a record of a model that no run trained.

    If there is already a complete record of exactly this model's files, it is returned. Otherwise a new record is
    written. It describes a finished run that trained nothing, so that every command that reads runs can read it.

    Args:
        reference: the reference to the model, such as `path:DIR`.
        checked: the configuration with this model and the overrides `UNCHANGED`, with which nothing is trained.

    Raises:
        InstructLabError: the files of the model cannot be read, or the folder of records is not writable.
    """
    experiment = checked.experiment
    found = parse_reference("model", reference)
    if found is None:
        raise InstructLabError(f"{reference!r} names no model", do="write path:DIR, path:FILE.gguf or hub:ORG/NAME")
    inputs = experiment.model.inputs(user_path(experiment.cache_path))
    entries = [InputEntry(one.name, one.sha256, one.bytes) for one in inputs]
    name = f"model-{found.label}".replace("/", "_")
    folder = user_path(experiment.runs_path) / name
    for path in sorted(folder.glob("*"), reverse=True):
        with contextlib.suppress(InstructLabError):  # a damaged record
            known = RunRecord.open(path)
            if known.manifest.status == "finished" and known.manifest.inputs == entries:
                return known
    config = checked.resolved
    record = RunRecord.create(
        folder.parent,
        name,
        config,
        [f"model={reference}", *UNCHANGED],
        choices=checked.composition.choices,
        seeds={"seed": experiment.seed},
        config_hash=config_hash(config),
        derived=checked.composition.derived,
        inputs=[dataclasses.asdict(one) for one in entries],
        runs_remote_code=experiment.model.runs_remote_code,
    )
    keep_weights(write_marker, record.checkpoints_path, "last", step=0)
    record.write_summary(Summary("finished", record.seconds()))
    record.write_manifest(status="finished", evaluated_step=0)
    return record
