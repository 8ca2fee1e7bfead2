"""Splitting text into words, to compare texts in the checks for overlapping splits, duplicates and contamination.

Case, Unicode form, punctuation and white space are ignored. Symbols such as `+` are ignored by `compared_words` and
kept by `compared_tokens`. In scripts without spaces between words, each character is a word.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata

HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31f0-\u31ff\uff66-\uff9f"
SOUTHEAST_ASIAN = "\u0e01-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
MARKS = "\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3"  # their marks
UNSPACED = re.compile(f"[{HAN}{KANA}{SOUTHEAST_ASIAN}]")
HIGH = re.compile("[\u0300-\U0010ffff]")  # the range that holds combining marks and scripts without spaces
LETTERS = re.compile(r"\w+")
SYMBOLS = re.compile(
    "([+<=>|~^%&@$/\\\\\u00a2-\u00a5\u00b0\u00b1\u00ac\u00d7\u00f7\u2030\u2031\u20a0-\u20cf\u2190-\u24ff\u2600-\u2bff"
    "\U0001f000-\U0001faff]+"
    r"|(?<=\w)#|#(?=\w)"  # C#, #1; not a heading of Markdown
    r"|(?<=[\w)\]] )[-\u2212*!](?= [\w(\[-])"  # an operator between spaces
    r"|(?<=[\d)])(?:[-\u2212]|\*{1,2})(?=[\d(])"  # an operator between numbers
    r"|(?<!\w)[-\u2212](?=\d))"  # a negative number
)
ASCII_WORDS = "".join(chr(code).lower() if re.match(r"\w", chr(code)) else " " for code in range(128))
"""Translation table that converts ASCII letters to lower case, and all but letters, digits and underscores to spaces.

Translating and splitting a text is three times as fast as matching a regular expression.
"""


def compared_words(text: str) -> list[str]:
    """Split a text into words in lower case and NFKC form, without punctuation and symbols.

    In scripts without spaces between words, each character is a word.
    """
    if text.isascii():
        return text.translate(ASCII_WORDS).split()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if folded.isascii():
        return folded.translate(ASCII_WORDS).split()
    beyond = set(HIGH.findall(folded))
    if not any(map(_is_unspaced_or_mark, beyond)):
        for character in beyond:
            if not character.isalnum():  # a typographic quote or dash; the other characters are often ASCII
                folded = folded.replace(character, " ")
        return folded.translate(ASCII_WORDS).split() if folded.isascii() else LETTERS.findall(folded)
    marks = any(unicodedata.category(character)[0] == "M" for character in beyond)
    return _word(marks).findall(folded)


def compared_tokens(text: str) -> list[str]:
    """Split a text into its words (in lower case, without punctuation) and its symbols, in order.

    Symbols are signs that change the meaning of a text: operators (`a < b`, `7 - 5`, `C++`), currencies, arrows, emoji.
    Punctuation, quotes, brackets, hyphens and Markdown markup are not symbols.
    """
    pieces = SYMBOLS.split(text)
    if len(pieces) == 1:
        return compared_words(text)
    return [token for index, piece in enumerate(pieces) for token in ([piece] if index % 2 else compared_words(piece))]


@functools.lru_cache(maxsize=4096)
def _is_unspaced_or_mark(character: str) -> bool:
    """Whether a character is a combining mark or belongs to a script without spaces."""
    return unicodedata.category(character)[0] == "M" or UNSPACED.match(character) is not None


@functools.cache
def _word(marks: bool) -> re.Pattern[str]:
    """Return a pattern that matches a word in any script.

    If `marks` is true, a word can contain combining marks, as in Devanagari.
    """
    unspaced = HAN + KANA + SOUTHEAST_ASIAN
    letter = rf"[^\W{unspaced}]"
    letters = rf"(?:{letter}|[{_combining_marks()}])+" if marks else f"{letter}+"
    return re.compile(f"[{HAN}{KANA}]|[{SOUTHEAST_ASIAN}][{MARKS}]*|{letters}")


@functools.cache
def _combining_marks() -> str:
    ranges: list[list[int]] = []
    for code in range(0x300, sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
