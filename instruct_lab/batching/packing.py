"""Packing: the distribution of texts over rows, each of which holds several texts end to end."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple


class Packing(NamedTuple):
    """The rule by which the texts of a batch are laid end to end in rows when a model reads them.

    Args:
        row_tokens: the largest number of tokens in a row; `None`: all texts are in one row.
        multiple: the length of a row is rounded up to a multiple of this number.
    """

    row_tokens: int | None = None
    multiple: int = 1

    def rows(self, lengths: Sequence[int]) -> tuple[list[list[int]], int]:
        """Return the indices of the texts in each row, and the length of every row with its padding.

        Args:
            lengths: number of tokens of each text.
        """
        rows = best_fit(lengths, self.row_tokens)
        longest = max((sum(lengths[index] for index in row) for row in rows), default=0)
        return rows, -(-longest // self.multiple) * self.multiple


def best_fit(lengths: Sequence[int], row_tokens: int | None) -> list[list[int]]:
    """Distribute texts over few rows by best-fit decreasing, in O(n log n).

    The longest texts come first. Each one goes to the fullest row that has enough space, or else to a new row. Source:
    Johnson et al., 1974.

    Args:
        lengths: number of tokens of each text; a text that is longer than a row gets a row of its own.
        row_tokens: number of tokens in a row; `None`: one row holds all texts, in their order.

    Returns:
        The indices of the texts in each row, in the order in which the row holds them.
    """
    if row_tokens is None:
        return [list(range(len(lengths)))] if lengths else []
    rows: list[list[int]] = []
    spaces: list[int] = []  # the different numbers of free tokens of rows, ascending
    with_space: dict[int, list[int]] = {}  # for each of them, the rows
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        length = lengths[index]
        found = bisect.bisect_left(spaces, length)
        if found == len(spaces):
            space, row = max(row_tokens, length), len(rows)
            rows.append([])
        else:
            space = spaces[found]
            row = with_space[space].pop()
            if not with_space[space]:
                del with_space[space], spaces[found]
        rows[row].append(index)
        if left := space - length:
            if left not in with_space:
                bisect.insort(spaces, left)
                with_space[left] = []
            with_space[left].append(row)
    return rows
