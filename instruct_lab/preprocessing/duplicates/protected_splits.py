"""Precedence of splits: a row in several splits is kept in test rather than validation, and in either than train."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from instruct_lab.data import Conversation, SplitName

ORDER: tuple[SplitName, ...] = ("train", "validation", "test")


def evaluation_splits() -> list[SplitName]:
    """Return validation and test: the default for steps that compare rows with other splits."""
    return ["validation", "test"]


def protected_splits(
    split: str, names: Iterable[SplitName], splits: Mapping[str, Sequence[Conversation]]
) -> dict[str, Sequence[Conversation]]:
    """Return the splits of `names` that take precedence over `split`; rows in both are dropped from `split`."""
    later = ORDER[ORDER.index(split) + 1 :] if split in ORDER else ()
    return {name: splits[name] for name in later if name in names and name in splits}
