"""The base class of data sets, which write conversations to files in the cache, and functions for these files."""

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
        """What the conversations contain for training.

        The kinds are `answers`, preference `pairs`, `labels` (whether an answer is desirable) and plain `text`.
        """
        return frozenset({"answers"})

    def gives_any(self, needed: frozenset[Supervision]) -> bool:
        """Whether every row contains at least one of the kinds of supervision in `needed`, such as `pairs`."""
        return not self.gives.isdisjoint(needed)

    @property
    def allowed_broken_share(self) -> float:
        """The largest accepted proportion of broken rows; a larger proportion is an error.

        Broken rows, such as rows that are not JSON, are dropped and counted.
        """
        return 0.0

    def source_names(self, split: SplitName) -> list[str]:
        """Return the names of the sources of a split's rows; the list is empty if the data set has no such split."""
        return [""]

    @property
    def requested_splits(self) -> frozenset[SplitName]:
        """The splits that should have rows according to the config.

        The config either names sources for them or gives them a part of the training rows.
        """
        return frozenset(split for split in SPLIT_NAMES if self.source_names(split))

    @property
    def has_validation(self) -> bool:
        """Whether the data set has a validation split."""
        return bool(self.source_names("validation"))

    @property
    def is_stream(self) -> bool:
        """Whether each epoch trains on the next block of the source's rows; only the first block is stored on disk."""
        return False

    @property
    def needs_reasoning_template(self) -> bool:
        """Whether the data requires a template that puts the model's reasoning into `<think>` tags."""
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
        """Return the inputs of all sources, each once and with its SHA-256.

        Inputs are files, files in Python packages, or data sets of the Hugging Face Hub.

        Args:
            cache_path: folder for downloads.

        Raises:
            InstructLabError: an input is missing, or cannot be read or downloaded.
        """

    @abstractmethod
    def stage(self, cache_path: Path) -> Stage:
        """Return the stage (a step of preparing the data whose result is cached) that produces the conversations.

        It reads the rows, converts them, divides them among the splits, and writes a file for each split.

        Args:
            cache_path: folder for downloads.

        Raises:
            InstructLabError: an input is missing, or cannot be read or downloaded.
        """

    def stage_after_preprocessing(self) -> Stage | None:
        """Return the stage that compares the prompts of the splits after preprocessing; `None` if there is none.

        Preprocessing may make prompts of different splits equal. The stage then keeps each prompt in only one split.
        """
        return None


def tables(entry: Entry) -> dict[str, ConversationTable]:
    """Return the conversations that a stage has written to the cache, as one table for each split.

    Args:
        entry: the stage's result in the cache.
    """
    return {str(name): ConversationTable(split_path(entry.path, name)) for name in SPLIT_NAMES}


def split_path(folder: Path, split: str) -> Path:
    """Return the path of the file with a split's conversations, in the folder of a stage's result in the cache."""
    return folder / f"{split}.arrow"


def write_flagged(rows: ConversationTable, flags: bytearray, path: Path) -> int:
    """Write the rows whose flag is 1 to a new file, and return their number.

    If every flag is 1, nothing is copied: the new file is a hard link to the file of `rows`.

    Args:
        rows: all rows, which are read from a file.
        flags: one byte for each row, 1 or 0.
        path: path of the new file.
    """
    if all(flags):
        link(rows.path, path)
        return len(rows)
    return rows.write_selected(path, flags)
