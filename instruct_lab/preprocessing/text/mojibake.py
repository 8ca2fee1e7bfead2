"""Text that was written in UTF-8 and read in another encoding."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

ENCODINGS = ("latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac_roman", "cp437")
"""The encodings that UTF-8 is most often taken for: those that ftfy undoes."""


def _seen_as(first: int, last: int) -> str:
    """A class of the characters that bytes show as, in any of the encodings."""
    seen = {bytes([byte]).decode(encoding, "ignore") for byte in range(first, last + 1) for encoding in ENCODINGS}
    return "[" + "".join(re.escape(character) for character in sorted(seen)) + "]"


SUSPECT = re.compile(f"{_seen_as(0xC2, 0xF4)}{_seen_as(0x80, 0xBF)}|\xc3 |[\x80-\x9f]")
"""A sequence of UTF-8 read in one of the encodings, or a control character of Latin-1: several times faster to look
for than ftfy's own test, which is asked only about lines where this is found."""


@functools.cache
def _settings() -> TextFixerConfig:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


def repaired(text: str) -> str:
    """The text with its encoding repaired, line by line, where a line is badly decoded; nothing else is changed.

    Source: ftfy (Speer, 2019), of which only the encoding is used: quotes, ligatures and widths stay.
    """
    if text.isascii() or not SUSPECT.search(text):
        return text
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(line: str) -> str:
    if line.isascii() or not SUSPECT.search(line):
        return line
    from ftfy import fix_encoding

    return str(fix_encoding(line, _settings()))  # asks its own test of badness first
