"""Which split keeps a row that several splits contain: test if it is among them, otherwise validation."""

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
    """Return the rows of those splits that keep a row which `split` also contains, so that `split` loses it.

    Test takes precedence over validation, and validation over train.

    Args:
        split: name of the split that may lose rows.
        names: names of the splits with which it is compared.
        splits: the rows of every split, keyed by name.
    """
    later = ORDER[ORDER.index(split) + 1 :] if split in ORDER else ()
    return {name: splits[name] for name in later if name in names and name in splits}
