"""Which split keeps a row that is in two: test before validation, validation before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from instruct_lab.data import Conversation, SplitName

ORDER: tuple[SplitName, ...] = ("train", "validation", "test")


def evaluation_splits() -> list[SplitName]:
    """The default of steps that compare rows with other splits."""
    return ["validation", "test"]


def protected_splits(
    split: str, names: Iterable[SplitName], splits: Mapping[str, Sequence[Conversation]]
) -> dict[str, Sequence[Conversation]]:
    """Later splits, among `names`, whose rows win over this split's duplicates."""
    later = ORDER[ORDER.index(split) + 1 :] if split in ORDER else ()
    return {name: splits[name] for name in later if name in names and name in splits}
