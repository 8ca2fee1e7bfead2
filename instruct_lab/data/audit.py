"""What happened to every row: counts by stage and reason, with a few samples each."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

MAX_SAMPLES = 5
MAX_SAMPLE_CHARACTERS = 400


def _format_sample(sample: object) -> str | None:
    if sample is None:
        return None
    text = str(sample).encode("utf-8", "replace").decode()  # UTF-8 cannot encode half a surrogate pair
    if len(text) <= MAX_SAMPLE_CHARACTERS:
        return text
    return text[:MAX_SAMPLE_CHARACTERS] + f"… ({len(text)} characters)"


@dataclasses.dataclass
class Tally:
    """The rows that one stage handled for one reason, with up to five samples (before and after)."""

    stage: str
    action: str  # "dropped", "changed", "truncated", "added" or "reported"
    reason: str
    count: int = 0
    samples: list[dict[str, str | None]] = dataclasses.field(default_factory=list)


class Audit:
    """Counts what happened to rows; passed from stage to stage and written to `audit.json`."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        self.stages: dict[str, dict[str, int]] = {}
        self.facts: dict[str, Any] = {}
        self._sums: dict[tuple[str, str], None] = {}  # facts that are summed

    def record(self, stage: str, action: str, reason: str, before: object, after: object = None) -> None:
        """Count one row, and keep it as a sample if there are fewer than five.

        Args:
            stage: the name of the stage.
            action: dropped, changed, truncated, added, or reported (the row stays as it is).
            reason: why, in a few words without row-specific details, so that equal reasons are counted together.
            before: the row, as text or as an object with `__str__` (a `Conversation`): only samples are rendered.
            after: the row afterwards.
        """
        key = (stage, action, reason)
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally(stage=stage, action=action, reason=reason)
        tally.count += 1
        if len(tally.samples) < MAX_SAMPLES:
            tally.samples.append({"before": _format_sample(before), "after": _format_sample(after)})

    def rows(self, stage: str, rows_in: int, rows_out: int) -> None:
        """Record how many rows entered and left a stage; calls for the same stage add up."""
        counts = self.stages.setdefault(stage, {"in": 0, "out": 0})
        counts["in"] += rows_in
        counts["out"] += rows_out

    def note(self, stage: str, **facts: Any) -> None:
        """Record findings of a stage other than counts of rows, as JSON values; stored in `facts` under its name."""
        self.facts.setdefault(stage, {}).update(facts)

    def add(self, stage: str, **counts: Mapping[str, int]) -> None:
        """Record counts by name, as `note` does; repeated calls for a stage are summed, and sorted by count."""
        facts = self.facts.setdefault(stage, {})
        for name, more in counts.items():
            facts[name] = dict((Counter(facts.get(name, {})) + Counter(more)).most_common())
            self._sums[stage, name] = None

    def count(self, action: str | None = None, stage: str | None = None) -> int:
        """How many rows were counted under an action (default: any) at a stage (default: all)."""
        return sum(
            tally.count
            for tally in self.tallies.values()
            if action in (None, tally.action) and stage in (None, tally.stage)
        )

    def merge(self, content: dict[str, Any]) -> None:
        """Add another audit, given as `to_json` returned it."""
        for stage, counts in content["stages"].items():
            self.rows(stage, counts["in"], counts["out"])
        for reason in content["reasons"]:
            key = (reason["stage"], reason["action"], reason["reason"])
            tally = self.tallies.setdefault(key, Tally(*key))
            tally.count += reason["count"]
            tally.samples.extend(reason["samples"][: MAX_SAMPLES - len(tally.samples)])
        for stage, facts in content["facts"].items():
            known = self.facts.get(stage)
            self.facts[stage] = known | facts if isinstance(known, dict) and isinstance(facts, dict) else facts

    def absorb(self, later: Audit) -> None:
        """Add the audit of further rows of the same stages; counts recorded with `add` are summed."""
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
