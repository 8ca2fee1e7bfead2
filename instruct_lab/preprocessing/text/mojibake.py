"""Repair of UTF-8 text that was decoded with another encoding."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

ENCODINGS = ("latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac_roman", "cp437")
"""The encodings with which UTF-8 is most often decoded by mistake; ftfy reverses them."""


def _decoded_range(first: int, last: int) -> str:
    """Return a regular expression for the characters that the bytes of a range become in any of the encodings."""
    characters = {bytes([byte]).decode(encoding, "ignore") for byte in range(first, last + 1) for encoding in ENCODINGS}
    return "[" + "".join(re.escape(character) for character in sorted(characters)) + "]"


SUSPECT = re.compile(f"{_decoded_range(0xC2, 0xF4)}{_decoded_range(0x80, 0xBF)}|\xc3 |[\x80-\x9f]")
"""A UTF-8 sequence decoded with one of the encodings, or a control character of Latin-1. Searching for it is several
times faster than ftfy's own check, which therefore runs only on lines that match."""


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


def repair_encoding(text: str) -> str:
    """Repair every line that was decoded with a wrong encoding; change nothing else.

    Uses only the encoding repair of ftfy (Speer, 2019), so quotes, ligatures and widths stay.
    """
    if text.isascii() or not SUSPECT.search(text):
        return text
    return "\n".join(_repair_line(line) for line in text.split("\n"))


def _repair_line(line: str) -> str:
    if line.isascii() or not SUSPECT.search(line):
        return line
    from ftfy import fix_encoding

    return str(fix_encoding(line, _settings()))  # begins with ftfy's own check
