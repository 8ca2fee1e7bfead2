"""The interface of data sets, and the files that they write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from instruct_lab.assets import Input
from instruct_lab.cache import Entry, Stage, link
from instruct_lab.config import Component
from instruct_lab.data.conversation import Supervision
from instruct_lab.data.split import SPLIT_NAMES
from instruct_lab.data.table import ConversationTable


class Data(Component, ABC):
    """A data set: where rows come from and how a row becomes a `Conversation`."""

    @property
    def gives(self) -> frozenset[Supervision]:
        """What training can use of the conversations; compared with what the objective needs."""
        return frozenset({"answers"})

    def gives_any(self, needed: frozenset[Supervision]) -> bool:
        """Whether every row gives at least one of these."""
        return not self.gives.isdisjoint(needed)

    @property
    def allowed_broken_share(self) -> float:
        """The share of rows that may be broken, as they are dropped and counted; above it, they are an error."""
        return 0.0

    @property
    def has_validation(self) -> bool:
        """Whether the config provides a validation split."""
        return True

    @property
    def by_source(self) -> bool:
        """Whether evaluation also reports results by source unless it is configured otherwise."""
        return False

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """The pinned inputs, each once; reads no rows.

        Raises:
            InstructLabError: an input is missing, or cannot be read or downloaded.
        """

    @abstractmethod
    def stage(self, cache_path: Path) -> Stage:
        """The stage that reads, maps and splits the rows: it writes one file of conversations for each split.

        Args:
            cache_path: folder for downloads.

        Raises:
            InstructLabError: a source cannot be read, or a row does not match the format.
        """

    def stage_after_preprocessing(self) -> Stage | None:
        """The stage that follows preprocessing, if there is one.

        Preprocessing may make prompts equal, so data sets use it to keep prompts from occurring in two splits.
        """
        return None


def tables(entry: Entry) -> dict[str, ConversationTable]:
    """The conversations of a cached result, by split."""
    return {str(name): ConversationTable(split_path(entry.path, name)) for name in SPLIT_NAMES}


def split_path(folder: Path, split: str) -> Path:
    """The file of a split in the folder of a cached result."""
    return folder / f"{split}.arrow"


def write_flagged(rows: ConversationTable, flags: bytearray, path: Path) -> int:
    """Write the rows whose flag is 1 to another file (a link if all are); returns their number."""
    if all(flags):
        link(rows.path, path)
        return len(rows)
    return rows.write_selected(path, flags)
