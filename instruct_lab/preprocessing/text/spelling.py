"""Functions that unify quotes, dashes, spaces, full-width characters, numbers and punctuation."""

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
"""Pattern of a typed placeholder, such as the step `redact` inserts; a placeholder is one word and never changes."""
NUMBER = re.compile(r"\d(?<![A-Za-z_\u00c0-\u024f\u0370-\u052f\d].)(?<!\d[.,].)\d*+(?:[.,]\d++)*")
"""Matches digits with separators between them, except after a letter, as in a name (B2B, gpt4, v1.5)."""
DIGIT = re.compile(r"\d")
INNER_PUNCTUATION = re.compile(r"(['’-](?<=[^\W_].)(?=[^\W_])|[.,](?<=\d.)(?=\d))")
"""Matches punctuation inside a word or a number."""


def to_ascii_quotes(text: str) -> str:
    """Replace quotation marks and apostrophes of any form with `"` and `'`."""
    return text if text.isascii() else text.translate(QUOTES)


def to_ascii_dashes(text: str) -> str:
    """Replace dashes, hyphens and the minus sign with `-`."""
    return text if text.isascii() else text.translate(DASHES)


def to_ascii_spaces(text: str) -> str:
    """Replace every kind of space with an ordinary space; tabs and line ends stay."""
    return text if text.isascii() else text.translate(SPACES)


def narrow_letters(text: str) -> str:
    """Replace full-width letters and digits with ASCII; full-width punctuation, which Chinese uses, stays."""
    return text if text.isascii() else text.translate(LETTER_FORMS)


def narrow_forms(text: str) -> str:
    """Replace full-width letters, digits, punctuation and spaces with the ASCII characters that they stand for."""
    return text if text.isascii() else text.translate(ASCII_FORMS)


def change_outside_placeholders(text: str, change: Callable[[str], str], also: str = "") -> str:
    """Apply `change` to the parts of a text between placeholders such as <EMAIL>, which stay as they are.

    Args:
        text: the text.
        change: function that receives one of these parts and returns its new text.
        also: a string that is treated as a placeholder too; an empty string stands for none.
    """
    if "<" not in text and not (also and also in text):
        return change(text)
    pieces = _unchanged(also).split(text)
    return "".join(piece if index % 2 else change(piece) for index, piece in enumerate(pieces))


@functools.cache
def _unchanged(also: str) -> re.Pattern[str]:
    return re.compile(f"({PLACEHOLDER}|{re.escape(also)})" if also else f"({PLACEHOLDER})")


def mask_numbers(text: str, mask: str) -> str:
    """Replace every number with `mask`; digits after a letter, as in `gpt4`, are not a number."""
    return NUMBER.sub(lambda _: mask, text)


def zero_digits(text: str) -> str:
    """Replace every digit with 0: `12.50` becomes `00.00`."""
    return DIGIT.sub("0", text)


def remove_punctuation(text: str, instead: str) -> str:
    """Remove punctuation and symbols, except apostrophes and hyphens inside words and points and commas inside numbers.

    Args:
        text: the text.
        instead: the replacement for each removed character.
    """
    table, pieces = _punctuation(instead), INNER_PUNCTUATION.split(text)
    return "".join(piece if index % 2 else piece.translate(table) for index, piece in enumerate(pieces))


@functools.cache
def _punctuation(instead: str) -> dict[int, str]:
    """Map the code point of each punctuation mark and symbol (Unicode's categories P and S) to `instead`."""
    return {code: instead for code in range(0x20000) if unicodedata.category(chr(code))[0] in "PS"}
