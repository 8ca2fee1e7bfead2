"""The folder of a run's records."""

from __future__ import annotations

from typing import Any


def run_name(name: str | None, choices: dict[str, Any]) -> str:
    """The config's own name for it, or its main choices."""
    parts = [str(choices.get(group, "custom")) for group in ("data", "model", "tuning")]
    return name or "-".join(parts).replace("/", "_")
