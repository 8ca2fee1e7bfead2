"""The choice of the split that keeps a row which several splits contain.

The test split keeps every row that it contains. The validation split keeps a row that it shares only with train.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from instruct_lab.data import Conversation, SplitName

ORDER: tuple[SplitName, ...] = ("train", "validation", "test")


def evaluation_splits() -> list[SplitName]:
    """Return validation and test: the splits with which steps compare the rows of other splits by default."""
    return ["validation", "test"]


def protected_splits(
    split: str, names: Iterable[SplitName], splits: Mapping[str, Sequence[Conversation]]
) -> dict[str, Sequence[Conversation]]:
    """Return the rows of those splits in `names` that take precedence over `split`, keyed by name.

    If one of these splits has the same row as `split`, the row is dropped from `split`. Test takes precedence over
    validation, and validation over train.

    Args:
        split: name of the split that may lose rows.
        names: names of the splits with which it is compared.
        splits: the rows of every split, keyed by name.
    """
    later = ORDER[ORDER.index(split) + 1 :] if split in ORDER else ()
    return {name: splits[name] for name in later if name in names and name in splits}
