"""Repair of mojibake (UTF-8 text that was decoded with a wrong encoding) in texts that are damaged as a whole."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

ENCODINGS = ("latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso-8859-2", "mac_roman", "cp437")
"""The encodings with which UTF-8 is most often decoded by mistake; ftfy reverses such decoding."""


def _decoded_range(first: int, last: int) -> str:
    """Return a regular expression for all characters that the bytes from `first` to `last` stand for in `ENCODINGS`."""
    characters = {bytes([byte]).decode(encoding, "ignore") for byte in range(first, last + 1) for encoding in ENCODINGS}
    return "[" + "".join(re.escape(character) for character in sorted(characters)) + "]"


SUSPECT = re.compile(f"{_decoded_range(0xC2, 0xF4)}{_decoded_range(0x80, 0xBF)}|\xc3 |[\x80-\x9f]")
"""Matches a UTF-8 sequence decoded with one of the encodings, or a control character of Latin-1.

This search is several times faster than ftfy's own check, which therefore runs only on texts that match.
"""

TOPIC = re.compile(
    r"mojibake|(?<![a-z])utf[-_ ]?(?:8|16|32)|unicode|latin[-_ ]?1(?!\d)|iso[-_ ]?8859|(?:cp|windows)[-_ ]?125\d|"
    r"en-?cod(?:e|ed|er|es|ing|ings)\b|de-?cod(?:e|ed|er|es|ing)\b|charset|character sets?\b|code ?pages?\b|garbled|"
    r"(?:ré|re)?encodage|codierung|zeichensatz|кодировк|编码|乱码|文字化け",
    re.IGNORECASE,
)
"""Matches words of texts about encodings, which may quote damaged characters on purpose."""


@functools.cache
def _settings() -> TextFixerConfig:
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        decode_inconsistent_utf8=False,
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
    """Repair a text if the whole text was decoded with a wrong encoding; otherwise, return it unchanged.

    The repair is by ftfy (Speer, 2019). The other repairs of ftfy are not used: damage in only a part of a text stays,
    and so do curly quotes, ligatures and full-width characters. A text with a character that the wrong decoding
    cannot have produced, such as a correct é, is not changed, because it may discuss the damage (`shows CafÃ© instead
    of Café`).
    """
    if text.isascii() or not SUSPECT.search(text):
        return text
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    repaired = str(fix_encoding(text, _settings()))  # begins with ftfy's own check
    return text if is_bad(repaired) else repaired


def looks_damaged(text: str) -> bool:
    """Whether a text seems to contain characters that were decoded with a wrong encoding."""
    if text.isascii() or not SUSPECT.search(text):
        return False
    from ftfy.badness import is_bad

    return bool(is_bad(text))


def is_about_encodings(texts: Iterable[str], repaired: Iterable[str]) -> bool:
    """Whether a row quotes damaged characters on purpose, so that a repair would destroy its meaning.

    This is assumed in two cases: a text of the row mentions encodings, or an undamaged text of the row contains a
    character that the repair of a damaged text produces.

    Args:
        texts: all texts of the row.
        repaired: for each text, the result of its repair.
    """
    produced: set[str] = set()
    correct: set[str] = set()
    for text, result in zip(texts, repaired, strict=True):
        if TOPIC.search(text):
            return True
        characters = {character for character in result if not character.isascii()}
        if result == text:
            correct |= characters
        else:
            produced |= characters
    return not produced.isdisjoint(correct)
