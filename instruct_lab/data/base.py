"""What a data set is to the rest of the house."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from instruct_lab.assets import Input
from instruct_lab.cache import Entry, Stage, Store, link
from instruct_lab.config import Component
from instruct_lab.data.audit import Audit
from instruct_lab.data.conversation import Conversation, Supervision
from instruct_lab.data.split import SPLIT_NAMES
from instruct_lab.data.stages import audit_of
from instruct_lab.data.table import ConversationTable


@dataclasses.dataclass(frozen=True)
class DataSplits:
    """Conversations by split name (`train`, `validation`, `test`) and the inputs they came from."""

    splits: dict[str, Sequence[Conversation]]
    inputs: list[Input]


class Data(Component, ABC):
    """A data set: where rows come from and how a row becomes a `Conversation`."""

    @property
    def gives(self) -> frozenset[Supervision]:
        """What training can use of the conversations; compared with what the objective needs."""
        return frozenset({"answers"})

    @property
    def has_validation(self) -> bool:
        """Whether there will be a validation split, as far as the config tells."""
        return True

    @property
    def by_source(self) -> bool:
        """Whether held-out results are told source by source too, where the evaluation does not say."""
        return False

    @abstractmethod
    def inputs(self, cache_path: Path) -> list[Input]:
        """The pinned inputs, each once; no row is read.

        Raises:
            InstructLabError: an input is not there, or cannot be read or brought.
        """

    @abstractmethod
    def stage(self, cache_path: Path) -> Stage:
        """How the rows are read, mapped and split: writes one file of conversations for each split.

        Args:
            cache_path: folder for what is downloaded.

        Raises:
            InstructLabError: a source cannot be read, or a row does not have the shape that the format names.
        """

    def stage_after_preprocessing(self) -> Stage | None:
        """What is done after preprocessing, which may have made prompts equal: no prompt in two splits.

        By default nothing.
        """
        return None

    def load(self, cache_path: Path, audit: Audit) -> DataSplits:
        """Read, map and split the rows, or take them from the cache; all three splits are there, possibly empty.

        Args:
            cache_path: folder for what is downloaded and for results.
            audit: counts every row that is left out, with its reason.

        Raises:
            InstructLabError: a source cannot be read, or a row does not have the shape that the format names.
        """
        entry = Store(cache_path).result([self.stage(cache_path)])
        audit.merge(audit_of(entry))
        return DataSplits(dict(tables(entry)), self.inputs(cache_path))


def tables(entry: Entry) -> dict[str, ConversationTable]:
    """The conversations of a result, by split."""
    return {str(name): ConversationTable(split_path(entry.path, name)) for name in SPLIT_NAMES}


def split_path(folder: Path, split: str) -> Path:
    """Where a result keeps a split."""
    return folder / f"{split}.arrow"


def write_flagged(rows: ConversationTable, flags: bytearray, path: Path) -> int:
    """The rows whose flag is set, in another file; the same file where that is all of them. Returns their number."""
    if all(flags):
        link(rows.path, path)
        return len(rows)
    return rows.write_selected(path, flags)
