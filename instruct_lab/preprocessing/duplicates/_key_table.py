"""Which keys were there before, in 26 bytes a row: a hash table in arrays, where a Python set takes some 150."""

from __future__ import annotations

import struct
from array import array

KEY_BYTES = 16
OWN = 1
"""The owner of keys of the split itself; other splits have greater numbers."""


class KeyTable:
    """128-bit keys with a count, by open addressing.

    At ten million rows, the chance that two different texts share any of the keys is below one in 10^24.

    Args:
        num_rows: how many keys there are at most.
    """

    def __init__(self, num_rows: int) -> None:
        self.num_slots = num_rows + num_rows // 4 + 8
        self._first = array("Q", [0]) * self.num_slots
        self._second = array("Q", [0]) * self.num_slots
        self.owners = array("B", [0]) * self.num_slots  # 0: the slot is empty
        self.counts = array("I", [0]) * self.num_slots  # rows of the split itself

    def slot(self, key: bytes, owner: int = OWN) -> int:
        """The place of a key; a new one gets an empty place and this owner."""
        first, second = struct.unpack("<QQ", key)
        firsts, owners = self._first, self.owners
        slot = first % self.num_slots
        while owners[slot]:
            if firsts[slot] == first and self._second[slot] == second:
                return slot
            slot = slot + 1 if slot + 1 < self.num_slots else 0
        firsts[slot], self._second[slot], owners[slot] = first, second, owner
        return slot


class Largest:
    """The largest clusters seen while counting, each with a sample of its rows.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int = 5) -> None:
        self._most = most
        self._clusters: dict[int, tuple[int, str]] = {}

    def saw(self, slot: int, size: int, sample: object) -> None:
        """A cluster has grown to a size; `sample` is made text only where the cluster is among the largest."""
        if slot not in self._clusters and len(self._clusters) == self._most:
            smallest = min(self._clusters, key=lambda known: self._clusters[known][0])
            if self._clusters[smallest][0] >= size:
                return
            del self._clusters[smallest]
        text = self._clusters[slot][1] if slot in self._clusters else str(sample)[:1000]
        self._clusters[slot] = (size, text)

    def told(self) -> list[tuple[int, str]]:
        """Sizes and samples, the largest first."""
        return sorted(self._clusters.values(), key=lambda cluster: -cluster[0])
