"""The base class of data sets, and the files that they write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from instruct_lab.assets import Input
from instruct_lab.cache import Entry, Stage, link
from instruct_lab.config import Component
from instruct_lab.data.conversation import Conversation, Supervision
from instruct_lab.data.split import SPLIT_NAMES, SplitName
from instruct_lab.data.table import ConversationTable


class Data(Component, ABC):
    """Base class of data sets, which read rows and convert them to conversations."""

    @property
    def gives(self) -> frozenset[Supervision]:
        """The kinds of supervision that the conversations contain: answers, preference pairs, labels or plain text."""
        return frozenset({"answers"})

    def gives_any(self, needed: frozenset[Supervision]) -> bool:
        """Whether every row contains at least one of the needed kinds of supervision."""
        return not self.gives.isdisjoint(needed)

    @property
    def allowed_broken_share(self) -> float:
        """The largest accepted share of broken rows. These rows are dropped and counted; a larger share is an error."""
        return 0.0

    def source_names(self, split: SplitName) -> list[str]:
        """Return the names of the sources of a split's rows; empty if the data set has no such split."""
        return [""]

    @property
    def requested_splits(self) -> frozenset[SplitName]:
        """The splits that the config asks for, either by naming sources or by setting a share of the training rows."""
        return frozenset(split for split in SPLIT_NAMES if self.source_names(split))

    @property
    def has_validation(self) -> bool:
        """Whether the data set has a validation split."""
        return bool(self.source_names("validation"))

    @property
    def is_stream(self) -> bool:
        """Whether training, after the stored rows, reads further rows from the source, which are not stored."""
        return False

    @property
    def needs_reasoning_template(self) -> bool:
        """Whether the data requires a template that writes reasoning in `<think>` tags."""
        return False

    @property
    def by_source(self) -> bool:
        """Whether evaluation reports results for each source by default."""
        return False

    def cluster_of(self, conversation: Conversation) -> str:
        """Return the name of the cluster of related rows that contains a row, such as its document.

        The name is empty if the row belongs to no cluster. Rows of one cluster are not independent of each other, so
        the confidence intervals of metrics are computed by resampling whole clusters.

        Raises:
            InstructLabError: the row does not have the column that names its cluster.
        """
        return ""

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the inputs of all sources, each once: files, package assets or Hub data sets, identified by SHA-256.

        Raises:
            InstructLabError: an input is missing, or cannot be read or downloaded.
        """

    @abstractmethod
    def stage(self, cache_path: Path) -> Stage:
        """Return the stage that reads, converts and splits the rows and writes a file of conversations for each split.

        Args:
            cache_path: folder for downloads.

        Raises:
            InstructLabError: a source cannot be read, or a row does not match the format.
        """

    def stage_after_preprocessing(self) -> Stage | None:
        """Return the stage that follows preprocessing, or `None` if the data set has no such stage.

        Preprocessing may make prompts of different splits equal, so this stage compares the splits again and keeps
        each prompt in only one of them.
        """
        return None


def tables(entry: Entry) -> dict[str, ConversationTable]:
    """Return the conversations of a cached result as one table for each split."""
    return {str(name): ConversationTable(split_path(entry.path, name)) for name in SPLIT_NAMES}


def split_path(folder: Path, split: str) -> Path:
    """Return the path of a split's file in the folder of a cached result."""
    return folder / f"{split}.arrow"


def write_flagged(rows: ConversationTable, flags: bytearray, path: Path) -> int:
    """Write the rows whose flag is 1 to a new file, and return their number.

    If every flag is 1, the new file is a hard link to the existing file of the rows.
    """
    if all(flags):
        link(rows.path, path)
        return len(rows)
    return rows.write_selected(path, flags)
