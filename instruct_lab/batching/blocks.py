"""Streams of examples, divided into blocks; each epoch of the training uses the next block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from instruct_lab.batching.example import Example


class ExampleBlocks(ABC):
    """A stream of examples in blocks of equal size; a loader uses block n in epoch n."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples of every block."""

    @abstractmethod
    def block(self, number: int) -> Sequence[Example]:
        """Return the block with this number, counted from 0; it stays in memory until another block is requested."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return two positions in the stream: where the last requested block begins, and where the next one begins."""

    @abstractmethod
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the positions that `state_dict` returned, so that no block before them has to be read again."""
