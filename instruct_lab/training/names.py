"""The folder of a run's records."""

from __future__ import annotations

from typing import Any

RUN_PATH_VARIABLE = "INSTRUCT_LAB_RUN_PATH"
"""The environment variable that names the record of a multi-device run to its other processes."""


def run_name(name: str | None, choices: dict[str, Any]) -> str:
    """The name that the config gives, or one made of the chosen data, model and tuning method."""
    parts = [str(choices.get(group, "custom")) for group in ("data", "model", "tuning")]
    return name or "-".join(parts).replace("/", "_")
