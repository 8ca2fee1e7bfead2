"""Stages of the data cache whose results include an audit: counts of the rows in this and all earlier stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from instruct_lab.cache import Entry, Stage
from instruct_lab.data.audit import Audit

AUDIT = "audit"


def audited_stage(
    name: str, depends_on: Any, build: Callable[[Entry | None, Path, Audit], dict[str, Any]], activity: str = ""
) -> Stage:
    """Return a stage of the data cache whose result includes an audit: counts of rows in this and all earlier stages.

    Args:
        name: the name of the stage in listings of the cache.
        depends_on: everything that affects the result, except the previous stage, as JSON values.
        build: function that receives the result of the previous stage, a folder and an audit. It writes files into the
            folder, counts rows in the audit, and returns facts to store (JSON values).
        activity: a text that says what `build` does, for the progress report.
    """

    def build_and_count(before: Entry | None, folder: Path) -> dict[str, Any]:
        audit = Audit()
        if before is not None:
            audit.merge(audit_of(before))
        facts = build(before, folder, audit)
        return {**facts, AUDIT: audit.to_json()}

    return Stage(name, depends_on, build_and_count, activity=activity)


def audit_of(entry: Entry) -> dict[str, Any]:
    """Return the audit of a cached result and all stages before it, as the JSON object that `Audit.to_json` gives."""
    audit: dict[str, Any] = entry.facts[AUDIT]
    return audit
