"""Precedence of splits: of a row in several splits, only the copy in test is kept, or else the one in validation."""

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
    """Return the splits of `names` that take precedence over `split`, so that `split` loses the rows that they share.

    Args:
        split: name of the split whose rows are selected.
        names: names of the splits to compare it with.
        splits: the rows of every split.
    """
    later = ORDER[ORDER.index(split) + 1 :] if split in ORDER else ()
    return {name: splits[name] for name in later if name in names and name in splits}
