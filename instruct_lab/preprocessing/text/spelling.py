"""Ways to write what is the same: quotes, dashes, spaces, widths, case, numbers, punctuation."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

QUOTES = str.maketrans(dict.fromkeys("“”„‟«»〝〞＂″", '"') | dict.fromkeys("‘’‚‛‹›＇′ʼ´", "'"))
DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹘﹣－⁃", "-"))
SPACES = str.maketrans(
    dict.fromkeys("\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " ")
)
ASCII_FORMS = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x3000: 0x20}
"""Full-width forms of ASCII's printable characters (U+FF01 to U+FF5E) and the ideographic space."""
LETTER_FORMS = {form: plain for form, plain in ASCII_FORMS.items() if chr(plain).isalnum()}

PLACEHOLDER = "<[A-Z][A-Z0-9_]{0,40}>"
"""A typed placeholder, such as the step redact writes: it is one word and is not changed."""
NUMBER = re.compile(r"\d(?<![A-Za-z_\u00c0-\u024f\u0370-\u052f\d].)(?<!\d[.,].)\d*+(?:[.,]\d++)*+")
"""Digits with separators between them; not after a letter, where they are part of a name (B2B, gpt4, v1.5)."""
DIGIT = re.compile(r"\d")
WITHIN = re.compile(r"(['’-](?<=[^\W_].)(?=[^\W_])|[.,](?<=\d.)(?=\d))")
"""What is part of a word or of a number."""


def with_ascii_quotes(text: str) -> str:
    """Quotation marks and apostrophes of any form as `"` and `'`."""
    return text if text.isascii() else text.translate(QUOTES)


def with_ascii_dashes(text: str) -> str:
    """Dashes, hyphens and the minus sign as `-`."""
    return text if text.isascii() else text.translate(DASHES)


def with_ascii_spaces(text: str) -> str:
    """Every kind of space as an ordinary one; tabs and line ends stay."""
    return text if text.isascii() else text.translate(SPACES)


def with_narrow_letters(text: str) -> str:
    """Full-width letters and digits as ASCII; full-width punctuation, which Chinese uses, stays."""
    return text if text.isascii() else text.translate(LETTER_FORMS)


def with_narrow_forms(text: str) -> str:
    """All full-width forms of ASCII characters as ASCII."""
    return text if text.isascii() else text.translate(ASCII_FORMS)


def outside_placeholders(text: str, change: Callable[[str], str], also: str = "") -> str:
    """The text with all but its placeholders changed.

    Args:
        text: the text.
        change: gives the new text of a piece.
        also: a further text that stays as placeholders do.
    """
    if "<" not in text and not (also and also in text):
        return change(text)
    pieces = _kept(also).split(text)
    return "".join(piece if place % 2 else change(piece) for place, piece in enumerate(pieces))


@functools.cache
def _kept(also: str) -> re.Pattern[str]:
    return re.compile(f"({PLACEHOLDER}|{re.escape(also)})" if also else f"({PLACEHOLDER})")


def with_masked_numbers(text: str, mask: str) -> str:
    """Every number as the mask."""
    return NUMBER.sub(lambda _: mask, text)


def with_zeros(text: str) -> str:
    """Every digit as a zero, so that only the shape of a number stays."""
    return DIGIT.sub("0", text)


def without_punctuation(text: str, instead: str) -> str:
    """The text without punctuation and symbols; apostrophes and hyphens within a word stay, and points in a number.

    Args:
        text: the text.
        instead: what stands where they stood.
    """
    table, pieces = _punctuation(instead), WITHIN.split(text)
    return "".join(piece if place % 2 else piece.translate(table) for place, piece in enumerate(pieces))


@functools.cache
def _punctuation(instead: str) -> dict[int, str]:
    """Unicode's categories P and S, all of which lie in its first two planes."""
    return {code: instead for code in range(0x20000) if unicodedata.category(chr(code))[0] in "PS"}
