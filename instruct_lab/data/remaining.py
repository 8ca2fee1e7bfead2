"""Warnings about splits without rows and about many rows with one prompt, and the error if no training row is left."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from instruct_lab.data.audit import Audit
from instruct_lab.data.mapping import FREQUENT_KEYS
from instruct_lab.data.split import SPLIT_NAMES, HashSplit, SplitName
from instruct_lab.errors import InstructLabError

WARNINGS = "warnings"
"""Name of the audit fact that lists warnings."""
LARGE_GROUP = 0.2
"""A warning is given if at least this proportion of the rows have the same beginning or prompt."""
MAX_REASONS = 4
SEE_DROPPED = "See dropped rows with instruct-lab inspect --dropped REASON, where REASON is a part of a reason"


class NoRowsLeft(InstructLabError):
    """Raised if no row is left to train on; its `audit` counts the dropped rows."""

    def __init__(self, what: str, audit: Audit, *, where: str, do: str) -> None:
        self.audit: dict[str, Any] = audit.to_json()
        super().__init__(what, where=where, do=do)


def describe_losses(audit: Audit, split: str) -> str:
    """List the most frequent reasons why rows of a split were dropped, with counts; empty if no row was dropped."""
    counts: dict[str, int] = {}
    for tally in audit.tallies.values():
        if tally.action == "dropped" and (split in tally.stage.split("/") or tally.reason.startswith(split)):
            reason = f"{tally.reason.removeprefix(f'{split}: ')} ({tally.stage})"
            counts[reason] = counts.get(reason, 0) + tally.count
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    parts = [f"{count:,} × {reason}" for reason, count in ordered[:MAX_REASONS]]
    num_left = sum(count for _, count in ordered[MAX_REASONS:])
    return "; ".join([*parts, *([f"{num_left:,} for other reasons"] if num_left else [])])


def warn_of_empty_splits(
    audit: Audit, requested: Collection[str], sizes: Mapping[Any, int], had_rows: Mapping[Any, int]
) -> None:
    """Add a warning for each requested split that lost all of its rows; `train` gets no warning.

    Args:
        audit: audit that counts the dropped rows and receives the warnings.
        requested: splits that the config asks for.
        sizes: current number of rows of each split.
        had_rows: number of rows of each split before rows were dropped; splits that had no rows get no warning.
    """
    for split in SPLIT_NAMES[1:]:
        if split in requested and not sizes.get(split, 0) and had_rows.get(split, 0):
            losses = describe_losses(audit, split)
            add_warning(
                audit,
                f"The {split} split is empty, so nothing is measured on it: all of its {had_rows[split]:,} rows were "
                f"dropped{f' ({losses})' if losses else ''}. {SEE_DROPPED}",
            )


def warn_of_division(audit: Audit, division: HashSplit, drawn: Mapping[SplitName, int]) -> None:
    """Add a warning for each held-out split that should get a share of the training rows but got no rows.

    If there is no such split, but many rows had to stay in one split because they begin with the same messages or have
    the same prompt, add a warning about these rows.

    Args:
        audit: audit that receives the warnings. Its counts of rows that had to stay in one split are used and then
            removed.
        division: the hash split that divides the training rows.
        drawn: number of training rows that each split got.
    """
    total = sum(drawn.values())
    groups = _take_frequent_keys(audit)
    key, size = max(groups.items(), key=lambda item: item[1], default=("", 0))
    together = ""
    if size >= max(10, LARGE_GROUP * total):
        together = f"{size:,} of {total:,} rows {_alike(division, key)} and stay in one split"
    by_prompt = "; data.split.by=prompt divides them by their whole prompt" if division.key_is_opening else ""
    is_named = False
    for split in ("validation", "test"):
        share = getattr(division, split)
        if share > 0 and not drawn.get(split, 0):
            why = together or f"data.split.{split}={share:g} of {total:,} rows is {share * total:.2g} rows"
            do = f"Raise data.split.{split}, or give files of its own under data.{split}"
            what = f"The {split} split is empty, so nothing is measured on it: no row was drawn for it ({why})"
            add_warning(audit, f"{what}. {do}{by_prompt if together else ''}")
            is_named = True
    if together and not is_named and division.column is None:
        got = ", ".join(f"{split} {drawn.get(split, 0):,}" for split in SPLIT_NAMES)
        add_warning(audit, f"{together}, so the splits may differ from their shares ({got}){by_prompt}")


def _take_frequent_keys(audit: Audit) -> dict[str, int]:
    found: dict[str, int] = {}
    for stage in list(audit.facts):
        facts = audit.facts[stage]
        if isinstance(facts, dict) and FREQUENT_KEYS in facts:
            for key, count in facts.pop(FREQUENT_KEYS).items():
                found[key] = found.get(key, 0) + count
            if not facts:
                del audit.facts[stage]
    return found


def _alike(division: HashSplit, key: str) -> str:
    if division.column is not None:
        return f"have the same {division.column}"
    text = " ".join(key.replace("\0", " ").split())
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    return f"begin with the same messages ({shown!r})" if division.by == "opening" else f"have one prompt ({shown!r})"


def add_warning(audit: Audit, warning: str) -> None:
    """Add a warning to the audit; the commands `train` and `inspect` print it."""
    audit.facts.setdefault(WARNINGS, []).append(warning)
