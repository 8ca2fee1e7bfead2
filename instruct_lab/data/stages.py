"""Stages of the data cache that count rows: each one's audit continues that of the previous stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from instruct_lab.cache import Entry, Stage
from instruct_lab.data.audit import Audit

AUDIT = "audit"


def audited_stage(name: str, depends_on: Any, build: Callable[[Entry | None, Path, Audit], dict[str, Any]]) -> Stage:
    """A stage whose result holds an audit: that of the stages before it and its own counts.

    Args:
        name: the stage's name in the list of the cache.
        depends_on: everything that its result depends on beside the previous stage, as JSON values.
        build: writes the result's files into a folder, given the previous stage's result, and counts in the audit;
            returns facts to keep, as JSON values.
    """

    def build_and_count(before: Entry | None, folder: Path) -> dict[str, Any]:
        audit = Audit()
        if before is not None:
            audit.merge(audit_of(before))
        facts = build(before, folder, audit)
        return {**facts, AUDIT: audit.to_json()}

    return Stage(name, depends_on, build_and_count)


def audit_of(entry: Entry) -> dict[str, Any]:
    """The audit of a result and of the stages before it, as returned by `Audit.to_json`."""
    audit: dict[str, Any] = entry.facts[AUDIT]
    return audit
