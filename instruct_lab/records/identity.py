"""The identity of a run: the settings that change its results, and their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from instruct_lab.files import to_plain
from instruct_lab.records.config_file import leaves

NOT_SCIENCE = frozenset({"name", "runs_path", "cache_path", "tracker"})
"""Top-level keys that decide where a run is written and tracked; they do not change its results."""

NOT_SCIENCE_TRAINER = frozenset(
    {"accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "profiler", "default_root_dir"}
)
"""Trainer arguments that decide where a run is computed and how it is logged."""


def config_hash(config: Mapping[str, Any]) -> str:
    """Hash the config without paths, trackers, progress and devices; runs with equal computations have equal hashes."""
    return hashlib.sha256(json.dumps(_science(config), sort_keys=True, default=str).encode()).hexdigest()


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that `config_hash` covers, by full key, as JSON types."""
    return {key: to_plain(value) for key, value in leaves(_science(config))}


def _science(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in NOT_SCIENCE}
    trainer = kept.get("trainer") or {}
    kept["trainer"] = {key: value for key, value in trainer.items() if key not in NOT_SCIENCE_TRAINER}
    callbacks = kept.get("callbacks") or {}
    kept["callbacks"] = {name: value for name, value in callbacks.items() if value and name != "progress"}
    return kept
