"""The audit: how many rows each stage of preparing the data dropped or changed, and why, with a few samples."""

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
    """Return the texts of a row before and after a stage, shortened for the audit.

    If a text is long, only the surroundings of the first difference between the two texts are kept. `None` stays
    `None`.
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
    """Cut a text to at most `MAX_SAMPLE_CHARACTERS` characters, and mark the cuts by `…`.

    A text that is short enough, and `None`, are returned unchanged.

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

    A sample contains the row's text before and after the stage; of long texts, only the surroundings of the first
    difference. If they are known, it also contains the row's `id` and, as `where`, the file and line of the row.
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
        stage: name of the stage that dropped it, such as `data/train/SOURCE`.
        reason: why it was dropped, in a few words.
        row: the row, a `Conversation`.
        message: the error message about the row; empty if there is none.
    """

    id: str
    stage: str
    reason: str
    row: Any
    message: str = ""


_watched: contextvars.ContextVar[tuple[str, list[Drop]] | None] = contextvars.ContextVar("watched", default=None)


@contextlib.contextmanager
def watch_drops(prefix: str) -> Iterator[list[Drop]]:
    """Collect, inside the `with` block, each row that is recorded as dropped and whose id begins with a prefix.

    Only the calls of `Audit.record` in this process are noticed.
    """
    drops: list[Drop] = []
    token = _watched.set((prefix, drops))
    try:
        yield drops
    finally:
        _watched.reset(token)


def _resolve(row: object) -> Any:
    """Return the conversation of a `RowText` (a row that is decoded on demand); return any other object unchanged."""
    return getattr(row, "conversation", row)


class Audit:
    """Counts the rows that the stages of preparing the data drop or change, and stores samples of them.

    The stages add to it one after the other. Its content is written to the file `audit.json` in the run's record.
    """

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        self.stages: dict[str, dict[str, int]] = {}
        self.facts: dict[str, Any] = {}
        self._sums: dict[tuple[str, str], None] = {}  # stage and name of each fact that `add` sums

    def record(
        self, stage: str, action: str, reason: str, before: object, after: object = None, row: object = None
    ) -> None:
        """Count what a stage did to one row, and why; store the row as a sample if there are fewer than five so far.

        Args:
            stage: the name of the stage.
            action: `dropped`, `changed`, `truncated`, `added`, or `reported` (the row is unchanged).
            reason: the reason, in a few words without details of the row, so that equal reasons are counted together.
            before: the row before the stage, as text or as an object with `__str__` (such as a `Conversation`), which
                is converted to text only if it is stored as a sample.
            after: the row after the stage.
            row: the row, if `before` is not the row but something else, such as an error message.
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
        """Record how many rows entered and left a stage; the numbers of several calls for one stage are summed."""
        counts = self.stages.setdefault(stage, {"in": 0, "out": 0})
        counts["in"] += rows_in
        counts["out"] += rows_out

    def note(self, stage: str, **facts: Any) -> None:
        """Store facts about the data that a stage found, such as its `languages`, under the name of the stage.

        The facts are JSON values.
        """
        self.facts.setdefault(stage, {}).update(facts)

    def add(self, stage: str, **counts: Mapping[str, int]) -> None:
        """Store facts about the data that are counts, and add them to the counts that earlier calls have stored.

        Args:
            stage: the name of the stage that found the facts.
            counts: facts by name, such as `finds`. Each is a mapping from what is counted to its count, and is stored
                in descending order of the counts.
        """
        facts = self.facts.setdefault(stage, {})
        for name, more in counts.items():
            facts[name] = dict((Counter(facts.get(name, {})) + Counter(more)).most_common())
            self._sums[stage, name] = None

    def count(self, action: str | None = None, stage: str | None = None) -> int:
        """Return how many rows were recorded with an action and a stage; `None` stands for any action or any stage."""
        return sum(
            tally.count
            for tally in self.tallies.values()
            if action in (None, tally.action) and stage in (None, tally.stage)
        )

    def merge(self, content: dict[str, Any]) -> None:
        """Add the counts, samples and facts of another audit; its facts replace facts of the same name.

        Args:
            content: the other audit, as its method `to_json` returns it.
        """
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
        """Add the audit of more rows that passed the same stages.

        Facts that were recorded with `add` are summed; other facts replace facts of the same name.

        Args:
            later: the audit of these rows; the facts that are summed are removed from it.
        """
        for stage, name in later._sums:
            self.add(stage, **{name: later.facts[stage].pop(name)})
        self.merge(later.to_json())

    def to_json(self) -> dict[str, Any]:
        """Convert the audit to a dictionary for JSON, which is the content of the file `audit.json`."""
        return {
            "stages": self.stages,
            "reasons": [dataclasses.asdict(tally) for tally in self.tallies.values()],
            "facts": self.facts,
        }
