"""The last line of a terminal, which is redrawn to show progress."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

from instruct_lab.progress.stages import Stage, describe

ERASE = "\r\x1b[2K"
BAR_WIDTH = 20
MIN_WIDTH_WITH_BAR = 60


class LiveLine:
    """The terminal's last line, which is redrawn again and again to show the stages that are in progress.

    Args:
        stream: the terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_drawn = False
        self._is_at_line_start = True

    def draw(self, stages: list[Stage]) -> None:
        """Draw the line; do nothing if the program's last output did not end with a newline.

        Otherwise, the progress would appear in the same line as that output.
        """
        if not self._is_at_line_start:
            return
        self._stream.write(ERASE + format_line(stages, self._width(), self._bar_signs()))
        self._stream.flush()
        self._is_drawn = True

    def erase(self) -> None:
        """Erase the line, if it is drawn."""
        if self._is_drawn:
            self._stream.write(ERASE)
            self._stream.flush()
            self._is_drawn = False

    def make_room(self, text: str) -> None:
        """Erase the line, because the caller is about to write `text` in its place.

        If `text` does not end with a newline, `draw` does nothing until a later text ends with one.
        """
        self.erase()
        if text:
            self._is_at_line_start = text.endswith("\n")

    def _width(self) -> int:
        with_fallback = shutil.get_terminal_size()
        if os.environ.get("COLUMNS", "").isdigit():
            return with_fallback.columns
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or with_fallback.columns
        except (OSError, ValueError):
            return with_fallback.columns

    def _bar_signs(self) -> tuple[str, str]:
        encoding = self._stream.encoding or "ascii"
        try:
            "━─".encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return "#", "-"
        return "━", "─"


def format_line(stages: list[Stage], width: int, signs: tuple[str, str] = ("━", "─")) -> str:
    """Return the text of the live line: a progress bar, then the names and progress of the open stages.

    A stage can run inside another stage. The bar shows the innermost stage with a known total. If the terminal is too
    narrow, the bar and the outer stages are left out; if necessary, the innermost stage's text is also cut.

    Args:
        stages: the stages that have begun and not ended; the innermost comes last.
        width: number of columns of the terminal; one of them stays free, so that the cursor does not wrap.
        signs: the characters of the bar's completed and remaining part.
    """
    from rich.cells import cell_len, set_cell_size

    text = describe(stages)
    counted = [stage for stage in stages if stage.total]
    if counted and width >= MIN_WIDTH_WITH_BAR:
        filled = min(BAR_WIDTH, int(BAR_WIDTH * counted[-1].reached / (counted[-1].total or 1)))
        with_bar = f"{signs[0] * filled}{signs[1] * (BAR_WIDTH - filled)} {text}"
        text = with_bar if cell_len(with_bar) < width else text
    if cell_len(text) < width:
        return text
    shortened = describe(stages[-1:])  # without the stages around it
    if cell_len(shortened) < width:
        return shortened
    return set_cell_size(shortened, max(1, width - 4)).rstrip() + "..."
