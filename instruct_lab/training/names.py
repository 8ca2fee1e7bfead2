"""The choice of a name for the folder that holds a run's record."""

from __future__ import annotations

from typing import Any

from instruct_lab.config.references import option_label

RUN_PATH_VARIABLE = "INSTRUCT_LAB_RUN_PATH"
"""The environment variable that passes the record's path to the other processes of a multi-device run."""


def run_name(name: str | None, choices: dict[str, Any]) -> str:
    """Return the name from the config; if it is null, return `DATA-MODEL-TUNING`, made of the chosen options' names."""
    parts = [option_label(group, str(choices.get(group, "custom"))) for group in ("data", "model", "tuning")]
    return name or "-".join(parts).replace("/", "_")
