"""A hash table of rows' hashes that needs less memory than a Python set: 26 bytes per row instead of about 150."""

from __future__ import annotations

import struct
from array import array

KEY_BYTES = 16
OWN = 1
"""The number, among `owners`, of the split that is deduplicated; the other splits have greater numbers."""


class KeyTable:
    """A hash table with open addressing, whose keys are 128-bit hashes of the texts of rows.

    `owners` holds, for each key, the number of the split with which the key was added. Splits that take precedence are
    added first, so the split that is deduplicated owns a key only if none of them has the text. `counts` holds how many
    rows of the split that is deduplicated have the text. At ten million rows, the probability that two different texts
    have the same key is below one in 10^24.

    Args:
        num_rows: the largest number of keys that the table can hold.
    """

    def __init__(self, num_rows: int) -> None:
        self.num_slots = num_rows + num_rows // 4 + 8
        self._first = array("Q", [0]) * self.num_slots
        self._second = array("Q", [0]) * self.num_slots
        self.owners = array("B", [0]) * self.num_slots  # 0: the slot is empty
        self.counts = array("I", [0]) * self.num_slots  # number of rows of the processed split

    def slot(self, key: bytes, owner: int = OWN) -> int:
        """Return the index of a key in the table; a key that is not in the table yet is added.

        Args:
            key: a 128-bit hash.
            owner: for a key that is added, the number of the split that contains its row.
        """
        first, second = struct.unpack("<QQ", key)
        firsts, owners = self._first, self.owners
        slot = first % self.num_slots
        while owners[slot]:
            if firsts[slot] == first and self._second[slot] == second:
                return slot
            slot = slot + 1 if slot + 1 < self.num_slots else 0
        firsts[slot], self._second[slot], owners[slot] = first, second, owner
        return slot
