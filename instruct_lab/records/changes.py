"""Find what has changed since a run started: settings, input files, code of instruct_lab, other packages, machine."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import Any

from instruct_lab.records.continuations import Change, Kind
from instruct_lab.records.environment import hardware, package_versions, run_dependencies, source_sha256
from instruct_lab.records.identity import settings_of
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import SETTINGS, InputEntry

SHORT_HASH = 12
WITHOUT_EFFECT = frozenset(
    {
        *("annotated-types", "filelock", "huggingface-hub", "hydra-core", "instruct-lab", "markupsafe", "omegaconf"),
        *("mlflow", "optuna", "packaging", "pydantic", "pyyaml", "ray", "rich", "submitit", "tensorboard", "tqdm"),
        *("trackio", "wandb"),
    }
)
"""Dependencies whose version does not change results; `instruct-lab` itself is compared by its code."""

MACHINE = ("python", "platform", "cpu_model", "threads", "gpus")
"""Properties of the machine on which the last digits of results can depend."""


def setting_changes(record: RunRecord) -> list[Change]:
    """Return the settings that someone has changed in the record's `config.yaml` since the run started.

    The file `settings.json`, which the run wrote at its start, holds the original settings. If the record does not have
    this file, because an earlier version of instruct_lab wrote it, the list is empty.
    """
    before = record.read_json(SETTINGS)
    return [] if before is None else _differences("setting", before, settings_of(record.config))


def input_changes(record: RunRecord, inputs: Iterable[InputEntry]) -> list[Change]:
    """Return the inputs that have changed since the run, including those that are new or no longer used.

    The list is empty if the record lists no inputs.

    Args:
        record: the run's record.
        inputs: the files and packages that the run would read now.
    """
    recorded = record.manifest.inputs
    if not recorded:
        return []
    before, now = ({one.name: one.sha256[:SHORT_HASH] for one in group} for group in (recorded, inputs))
    return _differences("input", before, now)


def code_changes(record: RunRecord) -> list[Change]:
    """Compare the code of instruct_lab and the versions of its dependencies with a run's record; return the changes.

    Only dependencies that the record lists are compared, because the run did not use the others.
    """
    manifest, changes = record.manifest, []
    if manifest.source_sha256 is not None and manifest.source_sha256 != source_sha256():
        before, now = (digest[:SHORT_HASH] for digest in (manifest.source_sha256, source_sha256()))
        changes.append(Change("code", "instruct_lab", before, now))
    if not manifest.packages:
        return changes
    used = run_dependencies() or manifest.packages.keys()
    recorded = {name: of for name, of in manifest.packages.items() if name in used and name not in WITHOUT_EFFECT}
    present = {name: of for name, of in package_versions().items() if name in recorded}
    return changes + _differences("package", recorded, present)


def machine_changes(record: RunRecord) -> list[Change]:
    """Compare Python, operating system, CPU, number of threads and GPUs with a run's record; return the changes."""
    manifest = record.manifest
    if not manifest.hardware:
        return []
    before = {"python": manifest.python, "platform": manifest.platform, **manifest.hardware}
    now = {"python": platform.python_version(), "platform": platform.platform(), **hardware()}
    return [change for change in _differences("machine", before, now) if change.name in MACHINE]


def _differences(kind: Kind, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    names = dict.fromkeys([*before, *now])
    return [Change(kind, name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]
