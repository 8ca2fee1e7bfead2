"""Keep a one-line description of each estimate of a run's memory and time in the cache.

`instruct-lab check` shows this line without estimating the run again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.files import read_json, write_json
from instruct_lab.records.identity import config_hash

FOLDER = "plans"


def remember(config: Mapping[str, Any], cache_path: Path, line: str) -> None:
    """Store a description of a run's estimate in the cache; do nothing if the cache is not writable.

    Args:
        config: the resolved config of the run.
        cache_path: folder for downloads and cached results.
        line: the description, in one line.
    """
    with contextlib.suppress(OSError, InstructLabError):
        file = _file(config, cache_path)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"plan": line})


def recall(config: Mapping[str, Any], cache_path: Path) -> str | None:
    """Return the one-line description of the latest estimate for a config; `None` if the cache holds none."""
    with contextlib.suppress(OSError, ValueError, InstructLabError):
        found = read_json(_file(config, cache_path))
        if isinstance(found, dict) and isinstance(found.get("plan"), str):
            return str(found["plan"])
    return None


def _file(config: Mapping[str, Any], cache_path: Path) -> Path:
    return cache_path / FOLDER / f"{config_hash(dict(config))[:32]}.json"
