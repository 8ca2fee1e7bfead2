"""The identity of a run: the hash of all settings that change its results."""

from __future__ import annotations

import hashlib
import json
from typing import Any

NOT_SCIENCE = frozenset({"name", "runs_path", "cache_path", "tracker"})
"""Top-level keys that decide where a run is written and tracked; they do not change its results."""

NOT_SCIENCE_TRAINER = frozenset(
    {"accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "profiler", "default_root_dir"}
)
"""Trainer arguments that decide where a run is computed and how it is logged."""


def config_hash(config: dict[str, Any]) -> str:
    """Hash the config without paths, trackers, progress and devices; runs with equal computations have equal hashes."""
    kept = {key: value for key, value in config.items() if key not in NOT_SCIENCE}
    trainer = kept.get("trainer") or {}
    kept["trainer"] = {key: value for key, value in trainer.items() if key not in NOT_SCIENCE_TRAINER}
    callbacks = kept.get("callbacks") or {}
    kept["callbacks"] = {name: value for name, value in callbacks.items() if value and name != "progress"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()
