"""Read how a run was configured: its chosen options, its settings, and which of these the user typed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from instruct_lab.records.identity import settings_of
from instruct_lab.records.record import RunRecord
from instruct_lab.records.schema import CONFIG, SETTINGS


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The settings of one run that can change its results.

    Args:
        choices: the chosen option of each config group.
        values: config values, keyed by full key.
        typed: groups and keys that the user typed as overrides, or that a sweep varied.
        derived: keys whose values the program computed, because no YAML file and no override sets them.
    """

    choices: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    typed: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()

    @classmethod
    def read(cls, record: RunRecord) -> RunSettings:
        """Read the settings from a run's record.

        Raises:
            InstructLabError: the record is damaged.
        """
        manifest = record.manifest
        swept = manifest.sweep.values if manifest.sweep is not None else {}
        values = recorded_settings(record)
        if values is None:
            values = settings_of(record.config)
        typed = frozenset([*typed_keys(record.overrides), *swept])
        return cls(manifest.choices, values, typed, frozenset(manifest.derived))


def recorded_settings(record: RunRecord) -> dict[str, Any] | None:
    """Read the settings that can change results from `settings.json`, ten times faster than from `config.yaml`.

    The result is `None` if the record has no such file, or if `config.yaml` was edited later than `settings.json`.
    """
    files = [record.path / name for name in (CONFIG, SETTINGS)]
    if not all(map(Path.is_file, files)) or files[0].stat().st_mtime_ns > files[1].stat().st_mtime_ns:
        return None
    found = record.read_json(SETTINGS)
    return found if isinstance(found, dict) else None


def typed_keys(overrides: Iterable[str]) -> list[str]:
    """Return the groups and keys that overrides set, such as `tuning` and `optimizer.lr`."""
    return [text.lstrip("+~").partition("=")[0].partition("@")[0].strip() for text in overrides]
