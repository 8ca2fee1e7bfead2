"""The precedence of splits if a row is in two splits: test before validation, validation before training."""

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
    """Return the splits in `names` that come after this split; their rows are kept instead of its duplicates."""
    later = ORDER[ORDER.index(split) + 1 :] if split in ORDER else ()
    return {name: splits[name] for name in later if name in names and name in splits}
