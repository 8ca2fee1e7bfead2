"""What a data set is to the rest of the house."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path

from instruct_lab.assets import Input
from instruct_lab.config import Component
from instruct_lab.data.audit import Audit
from instruct_lab.data.conversation import Conversation


@dataclasses.dataclass(frozen=True)
class DataSplits:
    """Conversations by split name (`train`, `validation`, `test`) and the inputs they came from."""

    splits: dict[str, list[Conversation]]
    inputs: list[Input]


class Data(Component, ABC):
    """A data set: where rows come from and how a row becomes a `Conversation`."""

    @property
    def has_validation(self) -> bool:
        """Whether there will be a validation split, as far as the config tells."""
        return True

    def separated(self, splits: dict[str, list[Conversation]], audit: Audit) -> dict[str, list[Conversation]]:
        """The splits after preprocessing, which may have made prompts equal, without a prompt in two of them.

        By default they are left as they are.
        """
        return splits

    @abstractmethod
    def load(self, cache_path: Path, audit: Audit) -> DataSplits:
        """Read, map and split the rows.

        Args:
            cache_path: folder for what is downloaded.
            audit: counts every row that is left out, with its reason.

        Raises:
            InstructLabError: a source cannot be read, or a row does not have the shape that the format names.
        """
