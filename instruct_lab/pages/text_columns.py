"""Lay out rows of text in columns for a terminal of a given width: columns that do not fit are left out, never broken.

Each row is one line. At most one column is flexible: a function shortens its cells if the space is too small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from instruct_lab.terminal import visible

GAP = 2
"""Number of spaces between columns."""
MIN_NAME = 8
"""Minimum width to which `list_within` shortens a name."""


@dataclasses.dataclass(frozen=True)
class TextColumn:
    """A column of texts.

    Args:
        heading: text above the column.
        cells: texts of the rows.
        rank: importance of the column; lower ranks are more important. If not all columns fit, those with the highest
            ranks are left out. Columns with rank 0 are always kept.
        is_right: whether the cells are aligned at their right ends, as numbers are.
        fit: function that returns a shortened cell, given the index of its row and the width in characters; `None` if
            the column has a fixed width.
        min_width: smallest width of a flexible column.
        styles: style of each cell, as in Rich; empty for no styles.
    """

    heading: str
    cells: Sequence[str]
    rank: int = 0
    is_right: bool = False
    fit: Callable[[int, int], str] | None = None
    min_width: int = 0
    styles: Sequence[str] = ()

    @property
    def natural_width(self) -> int:
        """Width of the longest cell, or of the heading if it is longer."""
        return max(cell_len(visible(text)) for text in (self.heading, *self.cells))

    @property
    def least_width(self) -> int:
        """Minimum width with which the column can be shown; cells of a flexible column can be shortened to it."""
        natural = self.natural_width
        return natural if self.fit is None else min(natural, max(self.min_width, cell_len(self.heading)))


def lay_out(columns: Sequence[TextColumn], width: int) -> tuple[list[Text], list[str]]:
    """Lay out columns side by side as lines of a given width.

    Args:
        columns: the columns, in the order in which they are shown.
        width: maximum number of characters in a line; it is exceeded only if the columns with rank 0 need more.

    Returns:
        The lines, of which the first has the headings, and a list of the headings of the columns that are left out.
    """
    kept: set[int] = set()
    used = -GAP
    for index in sorted(range(len(columns)), key=lambda index: (columns[index].rank, index)):
        needed = columns[index].least_width + GAP
        if columns[index].rank == 0 or used + needed <= width:
            kept.add(index)
            used += needed
    widths = {index: columns[index].least_width for index in kept}
    for index in kept:
        if columns[index].fit is not None:
            widths[index] = min(columns[index].natural_width, widths[index] + max(0, width - used))
    shown = [(columns[index], widths[index]) for index in sorted(kept)]
    num_rows = max((len(column.cells) for column in columns), default=0)
    lines = [_line([(column.heading, size, column.is_right, "bold") for column, size in shown])]
    for row in range(num_rows):
        cells = []
        for column, size in shown:
            text = column.cells[row]
            if column.fit is not None and cell_len(visible(text)) > size:
                text = column.fit(row, size)
            cells.append((text, size, column.is_right, column.styles[row] if column.styles else ""))
        lines.append(_line(cells))
    return lines, [column.heading for index, column in enumerate(columns) if index not in kept]


def _line(cells: Sequence[tuple[str, int, bool, str]]) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for index, (text, size, is_right, style) in enumerate(cells):
        text = visible(text)
        space = " " * (size - cell_len(text))
        line.append(" " * GAP * (index > 0))
        line.append(space * is_right)
        line.append(text, style=style or None)
        line.append(space * (not is_right and index < len(cells) - 1))
    return line


def list_within(title: str, names: Sequence[str], width: int, *, hint: str = "") -> str:
    """List as many names as fit into a width, on one line: `also measured: a, b and 3 more (hint)`.

    If not even the first name fits, it is shortened. If there is too little space even for a shortened name, the line
    gives only the number of names.
    """
    end = f" ({hint})" if hint else ""
    for count in range(len(names), 0, -1):
        left_out = len(names) - count
        more = f" and {left_out} more" if left_out else ""
        text = f"{title}: {', '.join(names[:count])}{more}{end}"
        if cell_len(text) <= width:
            return text
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    space = width - cell_len(f"{title}: {more}{end}")
    if names and space >= MIN_NAME:
        return f"{title}: {set_cell_size(names[0], space - 1)}…{more}{end}"
    return f"{title}: {len(names)}{end}"
