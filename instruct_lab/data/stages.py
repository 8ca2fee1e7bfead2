"""Stages of the data cache that count rows.

The result of such a stage includes an audit: the counts of this stage and of all stages before it.
"""

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
    """Return a stage of the data cache that counts rows.

    The stage's result includes an audit: the counts of this stage and of all stages before it.

    Args:
        name: the name of the stage in listings of the cache.
        depends_on: everything that affects the result, except the previous stage, as JSON values.
        build: function that receives the result of the previous stage, a folder and an audit. It writes files into the
            folder, counts rows in the audit, and returns JSON values by name, which are stored with the files.
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
    """Return the audit in a cached result, as the JSON object that `Audit.to_json` gives.

    It has the counts of the stage that made the result and of all stages before it.
    """
    audit: dict[str, Any] = entry.facts[AUDIT]
    return audit
