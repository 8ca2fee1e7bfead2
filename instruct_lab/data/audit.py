"""What happened to every row: counts by stage and reason, with a few samples each."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

MAX_SAMPLES = 5
MAX_SAMPLE_CHARACTERS = 400


def _shown(sample: object) -> str | None:
    if sample is None:
        return None
    text = str(sample).encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written down
    if len(text) <= MAX_SAMPLE_CHARACTERS:
        return text
    return text[:MAX_SAMPLE_CHARACTERS] + f"… ({len(text)} characters)"


@dataclasses.dataclass
class Tally:
    """Rows that met one reason at one stage, with up to five samples (before and after)."""

    stage: str
    action: str  # "dropped", "changed", "truncated", "added" or "reported"
    reason: str
    count: int = 0
    samples: list[dict[str, str | None]] = dataclasses.field(default_factory=list)


class Audit:
    """Collects what preprocessing did; travels through the rooms and ends in `audit.json`."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        self.stages: dict[str, dict[str, int]] = {}
        self.facts: dict[str, Any] = {}
        self._sums: dict[tuple[str, str], None] = {}  # the facts that add up

    def record(self, stage: str, action: str, reason: str, before: object, after: object = None) -> None:
        """Count one row; keep it as a sample while there are fewer than five.

        Args:
            stage: where it happened.
            action: dropped, changed, truncated, added, or reported (nothing was done to the row).
            reason: why, in a few words that many rows share.
            before: the row, as text or as something whose `str` is (a `Conversation`): only samples are made text.
            after: the same, afterwards.
        """
        key = (stage, action, reason)
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally(stage=stage, action=action, reason=reason)
        tally.count += 1
        if len(tally.samples) < MAX_SAMPLES:
            tally.samples.append({"before": _shown(before), "after": _shown(after)})

    def rows(self, stage: str, rows_in: int, rows_out: int) -> None:
        """Record how many rows entered and left a stage; calls for the same stage add up."""
        counts = self.stages.setdefault(stage, {"in": 0, "out": 0})
        counts["in"] += rows_in
        counts["out"] += rows_out

    def note(self, stage: str, **facts: Any) -> None:
        """Keep what a stage found out beyond counts of rows, as JSON can hold it; under its name in `facts`."""
        self.facts.setdefault(stage, {}).update(facts)

    def add(self, stage: str, **counts: Mapping[str, int]) -> None:
        """Keep counts by name, as `note` does; of several calls for the same stage, their sums, the greatest first."""
        facts = self.facts.setdefault(stage, {})
        for name, more in counts.items():
            facts[name] = dict((Counter(facts.get(name, {})) + Counter(more)).most_common())
            self._sums[stage, name] = None

    def count(self, action: str | None = None, stage: str | None = None) -> int:
        """How many rows met an action (all of them by default) at a stage (every stage by default)."""
        return sum(
            tally.count
            for tally in self.tallies.values()
            if action in (None, tally.action) and stage in (None, tally.stage)
        )

    def merge(self, told: dict[str, Any]) -> None:
        """Take in what another audit told with `to_json`."""
        for stage, counts in told["stages"].items():
            self.rows(stage, counts["in"], counts["out"])
        for reason in told["reasons"]:
            key = (reason["stage"], reason["action"], reason["reason"])
            tally = self.tallies.setdefault(key, Tally(*key))
            tally.count += reason["count"]
            tally.samples.extend(reason["samples"][: MAX_SAMPLES - len(tally.samples)])
        for stage, facts in told["facts"].items():
            known = self.facts.get(stage)
            self.facts[stage] = known | facts if isinstance(known, dict) and isinstance(facts, dict) else facts

    def absorb(self, later: Audit) -> None:
        """Take in what was counted of further rows."""
        for stage, name in later._sums:
            self.add(stage, **{name: later.facts[stage].pop(name)})
        self.merge(later.to_json())

    def to_json(self) -> dict[str, Any]:
        """The content of `audit.json`."""
        return {
            "stages": self.stages,
            "reasons": [dataclasses.asdict(tally) for tally in self.tallies.values()],
            "facts": self.facts,
        }
