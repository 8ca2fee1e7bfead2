"""Write to standard output and standard error, without sending control characters from names or data to a terminal.

A key such as `"\\x1b[2J"` in a config of someone else would otherwise clear the screen, recolour what follows it, or
hide a part of a message.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

TABLE_WIDTH = 150
MIN_WIDTH = 30
"""Minimum number of columns that `write_hanging` leaves for the indented lines of a text."""
INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff"
    r"\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Matches invisible characters and those that change how others are displayed.

These are control characters, marks of the text direction and lone surrogates, among others.

Line breaks and tabs are not included, nor the joiners that emoji and several scripts need.
"""


def visible(text: str) -> str:
    """Replace invisible characters by signs such as `␀` or `⟨U+202E⟩`, so that the text is safe to print."""
    return INVISIBLE.sub(lambda match: character_sign(match[0]), text)


def character_sign(character: str) -> str:
    """Return the visible sign for one invisible character, such as `␀` or `⟨U+202E⟩`."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def write_line(text: object, *, error: bool = False) -> None:
    """Write a line to standard output, or to standard error, with invisible characters as signs."""
    stream = sys.stderr if error else sys.stdout
    print(visible(str(text)), file=stream, flush=True)


def output_width() -> int | None:
    """Return the width of the output: the value of the variable `COLUMNS` or, if this is not set, the terminal's width.

    Return `None` if the variable is not set and standard output is no terminal.
    """
    has_width = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return shutil.get_terminal_size().columns if has_width else None


def write_hanging(text: str, indent: int) -> None:
    """Write a text to standard output, wrapped at the output's width, with all lines but the first indented.

    The text is not wrapped if the output's width is unknown.

    Args:
        text: the text, without line breaks.
        indent: number of spaces before all lines but the first. If fewer than `MIN_WIDTH` columns would remain for the
            text, at most 6 spaces are used, and wherever the text has more than two spaces in a row, two remain.
    """
    width, text = output_width(), visible(text)
    if width is not None and len(text) > width:
        if width - indent < MIN_WIDTH:
            start = len(text) - len(text.lstrip())
            text, indent = text[:start] + re.sub(" {2,}", "  ", text[start:]), min(indent, 6)
        lines = textwrap.wrap(
            text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
        )
        text = "\n".join(lines)
    write_line(text)


def write_content(text: str) -> None:
    """Write a line that another program may read; invisible characters become signs only on a terminal."""
    if sys.stdout.isatty():
        write_line(text)
    else:
        print(text)


def write_piece(text: str) -> None:
    """Write text to standard output at once, without a line break.

    On a terminal, invisible characters are written as signs.
    """
    print(visible(text) if sys.stdout.isatty() else text, end="", flush=True)


def open_console(**settings: Any) -> Console:
    """Return a Rich console that shows invisible characters as signs such as `␀`, and does not interpret markup.

    Args:
        settings: arguments of `rich.console.Console`.
    """
    return _console_class()(**{"highlight": False, "markup": False, "emoji": False, **settings})


def wide_console() -> Console:
    """Return a console on stdout that is at least `TABLE_WIDTH` wide, unless a terminal or `COLUMNS` sets the width."""
    console = open_console()
    has_width = console.is_terminal or os.environ.get("COLUMNS", "").isdigit()
    return console if has_width else open_console(width=max(console.width, TABLE_WIDTH))


@functools.cache
def _console_class() -> type[Console]:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class VisibleConsole(Console):
        """A console that replaces the invisible characters in texts, but keeps Rich's own control sequences."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    return VisibleConsole
