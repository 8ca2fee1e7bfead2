"""The stages of data preparation in an audit.

For each stage, an audit has the numbers of rows before and after it, and the reasons why it changed or dropped rows.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

SPLITS = ("train", "validation", "test")
ACTIONS = ("dropped", "truncated", "changed", "added", "reported")
"""What a stage can do to a row, in the order in which reports list it."""
NAMED_SPLIT = re.compile(rf"({'|'.join(SPLITS)}): ")

Counts = tuple[int, int]


@dataclasses.dataclass
class Sample:
    """A row on which a stage has taken an action, as a sample for a report.

    Args:
        split: the split of the row; empty if unknown.
        before: the text before the change.
        after: the text after the change; `None` if the row was dropped.
        where: the file and line of the row, or else its id; empty if neither is known.
    """

    split: str
    before: str
    after: str | None
    where: str = ""


@dataclasses.dataclass
class Reason:
    """The rows on which a stage has taken one kind of action for one reason.

    Args:
        action: what the stage did to the rows, such as `dropped`: one of `ACTIONS`.
        reason: why, as shown in reports.
        counts: number of rows, keyed by split.
        samples: samples of these rows.
    """

    action: str
    reason: str
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    samples: list[Sample] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """The number of rows in all splits."""
        return sum(self.counts.values())


@dataclasses.dataclass
class Stage:
    """One stage of data preparation: its numbers of rows, and the reasons why it dropped, changed or reported rows.

    Args:
        package: the first part of the stage's name in `audit.json`: data, preprocessing or batching.
        name: the rest of this name, without the split.
        counts: numbers of rows before and after the stage, keyed by split; the key is empty if the stage processes all
            splits together.
        reasons: reasons for actions on rows, sorted by `ACTIONS` and then by decreasing count.
    """

    package: str
    name: str
    counts: dict[str, Counts] = dataclasses.field(default_factory=dict)
    reasons: list[Reason] = dataclasses.field(default_factory=list)

    @property
    def rows(self) -> Counts:
        """The numbers of rows before and after the stage, summed over splits."""
        return sum(rows for rows, _ in self.counts.values()), sum(rows for _, rows in self.counts.values())

    @property
    def did_something(self) -> bool:
        """Whether the stage dropped, added, changed or reported a row."""
        return bool(self.reasons) or any(rows_in != rows_out for rows_in, rows_out in self.counts.values())

    def count(self, action: str) -> int:
        """Return the number of rows to which the stage applied an action of `ACTIONS`, such as `dropped`."""
        return sum(reason.count for reason in self.reasons if reason.action == action)


def read_stages(audit: dict[str, Any]) -> list[Stage]:
    """Read the stages of `audit.json`, in the order in which rows pass through them."""
    stages: dict[tuple[str, str], Stage] = {}

    def stage_of(name: str) -> tuple[Stage, str]:
        package, split, rest = parse_stage(name)
        return stages.setdefault((package, rest), Stage(package, rest)), split

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


def parse_stage(name: str) -> tuple[str, str, str]:
    """Split a stage's name, such as `data/train/rows.jsonl`, into package, split and remainder.

    The split is empty if the stage processes all splits together.
    """
    package, *parts = name.split("/")
    if package == "data" and len(parts) > 1 and parts[0] in SPLITS:
        return package, parts[0], f"source {'/'.join(parts[1:])}"
    split = next((part for part in parts if part in SPLITS), "")
    if split:
        parts.remove(split)
    return package, split, "/".join(parts) or package


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
    reason.samples += [_sample(split, entry) for entry in tally.get("samples", [])]


def _sample(split: str, entry: dict[str, Any]) -> Sample:
    """Create a sample from an item of the `samples` in `audit.json`.

    If the item lacks the text before the change, as after a redaction, the sample shows only the new text.
    """
    before, after = entry.get("before"), entry.get("after")
    texts = (str(after or ""), None) if before is None else (str(before), after)
    return Sample(split, *texts, entry.get("where") or entry.get("id") or "")


def _rank(action: str) -> int:
    return ACTIONS.index(action) if action in ACTIONS else len(ACTIONS)
