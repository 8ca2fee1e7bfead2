"""What an audit tells, its stages put together over the splits they passed."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

SPLITS = ("train", "validation", "test")
ACTIONS = ("dropped", "truncated", "changed", "added", "reported")
"""In the order in which they are told: what takes most away first."""
NAMED_SPLIT = re.compile(rf"({'|'.join(SPLITS)}): ")

Counts = tuple[int, int]


@dataclasses.dataclass
class Sample:
    """One row that met a reason: its split (empty where none is known), the row before, and after if it went on."""

    split: str
    before: str
    after: str | None


@dataclasses.dataclass
class Reason:
    """What was done to rows for one reason at one stage, over every split."""

    action: str
    reason: str
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    samples: list[Sample] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """Rows of every split."""
        return sum(self.counts.values())


@dataclasses.dataclass
class Stage:
    """One stage over every split that passed through it.

    Args:
        room: the first part of its name: data, preprocessing, batching.
        name: what is left of the name without room and split.
        counts: rows in and out by split; under the empty name where the stage saw all splits together.
        reasons: the most frequent first, in the order of `ACTIONS`.
    """

    room: str
    name: str
    counts: dict[str, Counts] = dataclasses.field(default_factory=dict)
    reasons: list[Reason] = dataclasses.field(default_factory=list)

    @property
    def rows(self) -> Counts:
        """Rows in and out of every split together."""
        return sum(rows for rows, _ in self.counts.values()), sum(rows for _, rows in self.counts.values())

    @property
    def did_something(self) -> bool:
        """Whether a row was left out, added, changed or reported."""
        return bool(self.reasons) or any(rows_in != rows_out for rows_in, rows_out in self.counts.values())

    def count(self, action: str) -> int:
        """Rows that met an action."""
        return sum(reason.count for reason in self.reasons if reason.action == action)


def read_stages(audit: dict[str, Any]) -> list[Stage]:
    """The stages of `audit.json`, in the order in which rows first came to them."""
    stages: dict[tuple[str, str], Stage] = {}

    def stage_of(name: str) -> tuple[Stage, str]:
        room, split, rest = parse(name)
        return stages.setdefault((room, rest), Stage(room, rest)), split

    for name, counts in audit.get("stages", {}).items():
        stage, split = stage_of(name)
        rows_in, rows_out = stage.counts.get(split, (0, 0))
        stage.counts[split] = (rows_in + counts["in"], rows_out + counts["out"])
    for tally in audit.get("reasons", []):
        stage, split = stage_of(tally["stage"])
        _add(stage, split, tally)
    for stage in stages.values():
        stage.reasons.sort(key=lambda reason: (_rank(reason.action), -reason.count))
    return list(stages.values())


def parse(name: str) -> tuple[str, str, str]:
    """Room, split and the rest of a stage's name; the split is empty where the stage has none."""
    room, *parts = name.split("/")
    if room == "data" and len(parts) > 1 and parts[0] in SPLITS:
        return room, parts[0], f"source {'/'.join(parts[1:])}"
    split = next((part for part in parts if part in SPLITS), "")
    if split:
        parts.remove(split)
    return room, split, "/".join(parts) or room


def _add(stage: Stage, split: str, tally: dict[str, Any]) -> None:
    text = tally["reason"]
    named = None if split else NAMED_SPLIT.match(text)
    if named is not None:
        split, text = named[1], text[named.end() :]
    known = (entry for entry in stage.reasons if (entry.action, entry.reason) == (tally["action"], text))
    reason = next(known, None)
    if reason is None:
        reason = Reason(tally["action"], text)
        stage.reasons.append(reason)
    reason.counts[split] = reason.counts.get(split, 0) + tally["count"]
    reason.samples += [Sample(split, str(s.get("before")), s.get("after")) for s in tally.get("samples", [])]


def _rank(action: str) -> int:
    return ACTIONS.index(action) if action in ACTIONS else len(ACTIONS)
