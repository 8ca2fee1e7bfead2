"""The audit: counts of rows that stages dropped or changed, by stage and reason, with a few samples."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

MAX_SAMPLES = 5
MAX_SAMPLE_CHARACTERS = 400


def _format_samples(before: object, after: object) -> tuple[str | None, str | None]:
    """Return a sample of a row as two texts: the row before and after a stage; `None` stays `None`.

    Long texts are shortened to the part around the first difference between the two.
    """
    first, second = (
        None if sample is None else str(sample).encode("utf-8", "replace").decode() for sample in (before, after)
    )  # UTF-8 cannot encode half a surrogate pair
    if first is None or second is None:
        return _excerpt(first, 0, 0), _excerpt(second, 0, 0)
    head = num_equal_characters(first, second)
    tail = min(num_equal_characters(first[::-1], second[::-1]), min(len(first), len(second)) - head)
    start = max(0, head - MAX_SAMPLE_CHARACTERS // 4)
    left_out = max(0, max(len(first), len(second)) - start - MAX_SAMPLE_CHARACTERS)  # cut at the end of both
    left_out = min(left_out, tail)
    return _excerpt(first, start, left_out), _excerpt(second, start, left_out)


def _excerpt(text: str | None, start: int, left_out: int) -> str | None:
    """Shorten a text of more than `MAX_SAMPLE_CHARACTERS` characters; return a shorter text or `None` unchanged.

    Args:
        text: the text.
        start: number of characters to cut at the beginning.
        left_out: minimum number of characters to cut at the end.
    """
    if text is None or len(text) <= MAX_SAMPLE_CHARACTERS:
        return text
    part = text[start : len(text) - left_out][:MAX_SAMPLE_CHARACTERS]
    is_cut = start + len(part) < len(text)
    return ("…" if start else "") + part + (f"… ({len(text)} characters)" if is_cut else "")


def num_equal_characters(first: str, second: str) -> int:
    """Return the length of the longest common prefix of two texts."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(first), len(second)))


@dataclasses.dataclass
class Tally:
    """The number of rows that one stage dropped, changed, added or reported for one reason, with up to five samples.

    A sample holds the row's text before and after the stage (long texts are shortened to the part around the first
    difference) and, if known, the row's `id` and the file and line that it was read from (`where`).
    """

    stage: str
    action: str  # "dropped", "changed", "truncated", "added" or "reported"
    reason: str
    count: int = 0
    samples: list[dict[str, str | None]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Drop:
    """One dropped row.

    Args:
        id: the id of the row.
        stage: the stage that dropped it.
        reason: the reason.
        row: the row, a `Conversation`.
        message: the error message about the row, if there is one.
    """

    id: str
    stage: str
    reason: str
    row: Any
    message: str = ""


_watched: contextvars.ContextVar[tuple[str, list[Drop]] | None] = contextvars.ContextVar("watched", default=None)


@contextlib.contextmanager
def watch_drops(prefix: str) -> Iterator[list[Drop]]:
    """Collect the drops that this process records inside the `with` block, for rows whose id begins with a prefix."""
    drops: list[Drop] = []
    token = _watched.set((prefix, drops))
    try:
        yield drops
    finally:
        _watched.reset(token)


def _resolve(row: object) -> Any:
    """Return the conversation whose text a `RowText` represents; return any other object unchanged."""
    return getattr(row, "conversation", row)


class Audit:
    """Counts the rows that stages drop or change. Each stage adds to it; its content is written to `audit.json`."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        self.stages: dict[str, dict[str, int]] = {}
        self.facts: dict[str, Any] = {}
        self._sums: dict[tuple[str, str], None] = {}  # stage and name of each fact that `add` sums

    def record(
        self, stage: str, action: str, reason: str, before: object, after: object = None, row: object = None
    ) -> None:
        """Count one row under a reason, and store the row as a sample if the reason has fewer than five samples.

        Args:
            stage: the name of the stage.
            action: dropped, changed, truncated, added, or reported (the row is unchanged).
            reason: the reason, in a few words without details of the row, so that equal reasons are counted together.
            before: the row before the stage, as text or as an object with `__str__` (such as a `Conversation`), which
                is converted to text only if it is stored as a sample.
            after: the row after the stage.
            row: the row, if `before` is something else, such as an error message.
        """
        key = (stage, action, reason)
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally(stage=stage, action=action, reason=reason)
        tally.count += 1
        if len(tally.samples) < MAX_SAMPLES:
            text_before, text_after = _format_samples(before, after)
            sample = {"before": text_before, "after": text_after}
            found = _resolve(before if row is None else row)
            known = {"id": getattr(found, "id", ""), "where": getattr(found, "origin", "")}
            tally.samples.append(sample | {key: value for key, value in known.items() if value})
        watched = _watched.get()
        if watched is not None and action == "dropped":
            found = _resolve(before if row is None else row)
            if str(getattr(found, "id", "")).startswith(watched[0]):
                message = "" if row is None or before is None else str(before)
                watched[1].append(Drop(found.id, stage, reason, found, message))

    def rows(self, stage: str, rows_in: int, rows_out: int) -> None:
        """Record how many rows entered and left a stage; the numbers of several calls for one stage are added."""
        counts = self.stages.setdefault(stage, {"in": 0, "out": 0})
        counts["in"] += rows_in
        counts["out"] += rows_out

    def note(self, stage: str, **facts: Any) -> None:
        """Store further findings of a stage (JSON values) in `facts`, under the stage's name."""
        self.facts.setdefault(stage, {}).update(facts)

    def add(self, stage: str, **counts: Mapping[str, int]) -> None:
        """Add named counts to the `facts` of a stage, in descending order; counts of the same name are summed."""
        facts = self.facts.setdefault(stage, {})
        for name, more in counts.items():
            facts[name] = dict((Counter(facts.get(name, {})) + Counter(more)).most_common())
            self._sums[stage, name] = None

    def count(self, action: str | None = None, stage: str | None = None) -> int:
        """Return the number of rows counted for an action (default: any action) at a stage (default: all stages)."""
        return sum(
            tally.count
            for tally in self.tallies.values()
            if action in (None, tally.action) and stage in (None, tally.stage)
        )

    def merge(self, content: dict[str, Any]) -> None:
        """Add another audit, given as the result of its `to_json`; its facts replace facts of the same name."""
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
        """Add the audit of further rows that passed the same stages; counts recorded with `add` are summed."""
        for stage, name in later._sums:
            self.add(stage, **{name: later.facts[stage].pop(name)})
        self.merge(later.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the content of `audit.json`."""
        return {
            "stages": self.stages,
            "reasons": [dataclasses.asdict(tally) for tally in self.tallies.values()],
            "facts": self.facts,
        }
