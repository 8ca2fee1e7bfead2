"""The identity of a run: the settings that change its results, and their hash."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from instruct_lab.files import to_plain
from instruct_lab.records.config_file import leaves
from instruct_lab.secrets import Interpolated

NOT_SCIENCE = frozenset({"name", "runs_path", "cache_path", "tracker"})
"""Top-level keys that decide where a run is written and tracked; they do not change its results."""

NOT_SCIENCE_TRAINER = frozenset(
    {"accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "profiler", "default_root_dir"}
)
"""Trainer arguments that decide where a run is computed and how it is logged."""

NOT_SCIENCE_BATCHING = frozenset({"micro_batch", "row_tokens", "share_prefix"})
"""Settings of batching that decide how an optimizer step is computed, but not on which examples."""

NOT_SCIENCE_PREPROCESSING = frozenset({"workers"})
"""Settings of preprocessing that decide which processes prepare the data."""

DIGEST_ROUNDS, DIGEST_CHARACTERS = 300_000, 6


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the settings that change the results of a run.

    Left out are paths, trackers, the progress report, devices, and settings that decide only how a batch is computed
    (such as `micro_batch`). Two runs that differ only in these compute the same results, so they have the same hash.
    """
    return hashlib.sha256(json.dumps(_science(config), sort_keys=True, default=str).encode()).hexdigest()


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that change the results of a run, as JSON values keyed by full key (such as `optimizer.lr`).

    These are the settings from which `config_hash` computes the hash.
    """
    return {key: to_plain(value) for key, value in leaves(_science(config))}


def _science(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in NOT_SCIENCE}
    trainer = kept.get("trainer") or {}
    kept["trainer"] = {key: value for key, value in trainer.items() if key not in NOT_SCIENCE_TRAINER}
    if batching := kept.get("batching"):
        kept["batching"] = {key: value for key, value in batching.items() if key not in NOT_SCIENCE_BATCHING}
    if steps := kept.get("preprocessing"):
        kept["preprocessing"] = {key: value for key, value in steps.items() if key not in NOT_SCIENCE_PREPROCESSING}
    callbacks = kept.get("callbacks") or {}
    kept["callbacks"] = {name: value for name, value in callbacks.items() if value and name != "progress"}
    identified: dict[str, Any] = _with_digests(kept)
    return identified


def _with_digests(value: Any) -> Any:
    """Copy a config; append a short digest to each string such as `${oc.env:HOME}`, which names environment variables.

    The digest depends on the current values of these variables.
    """
    if isinstance(value, Mapping):
        return {key: _with_digests(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_digests(inner) for inner in value]
    return f"{value} ({_digest_of(value)})" if isinstance(value, Interpolated) else value


def _digest_of(text: Interpolated) -> str:
    """Replace the environment variables in a string by their values, and return a short digest of the result.

    If a variable is not set, return `not set`. The digest is short and slow to compute on purpose, so that nobody can
    find a secret value by trying many values.
    """
    from omegaconf.errors import OmegaConfBaseException

    from instruct_lab.config.environment_values import to_omegaconf

    try:
        resolved = str(to_omegaconf({"text": text})["text"])
    except OmegaConfBaseException:
        return "not set"
    return _slow_digest(resolved)


@functools.lru_cache(maxsize=256)
def _slow_digest(text: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"instruct-lab", DIGEST_ROUNDS).hex()[:DIGEST_CHARACTERS]
