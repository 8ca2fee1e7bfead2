"""Characters that no text is meant to hold, and white space."""

from __future__ import annotations

import re

from instruct_lab.preprocessing.text.code_spans import outside_code

UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufeff\ud800-\udfff]")
ASCII_LINE_ENDS = re.compile("\r\n?|\x0b|\x0c")
TERMINAL_ESCAPE = re.compile("\x1b\\[[0-?]*+[ -/]*+[@-~]")  # colours and cursor moves (ECMA-48)
ASCII_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff]")  # tab and line ends excepted
SURROGATE = re.compile("[\ud800-\udfff]")
OTHER_UNWANTED = re.compile("[\x80-\x9f\u2028\u2029]")
OTHER_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
OTHER_CONTROL = re.compile("[\x80-\x9f]")
LOST = "\ufffd"

TRAILING = re.compile(r"(?<![^\S\n])[^\S\n]++(?=\n)")
INDENTATION = re.compile(r"(?:[^\S\n]*+\n)*+((?: {4}|\t)[ \t]*+)(?=\S)")


def without_ascii_control(text: str) -> str:
    """The text without control characters of ASCII, terminal colours and byte order marks.

    Line ends of every kind become a newline; halves of a surrogate pair are joined, and single ones become U+FFFD.
    """
    if not UNWANTED.search(text):
        return text
    if SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = TERMINAL_ESCAPE.sub("", ASCII_LINE_ENDS.sub("\n", text))
    return ASCII_CONTROL.sub("", text)


def without_other_control(text: str) -> str:
    """The text without the control characters beyond ASCII; looked for after encodings are repaired, which use them."""
    if text.isascii() or not OTHER_UNWANTED.search(text):
        return text
    return OTHER_CONTROL.sub("", OTHER_LINE_ENDS.sub("\n", text))


def without_lost(text: str) -> str:
    """The text without U+FFFD, which stands for what could not be decoded."""
    return text.replace(LOST, "")


def without_trailing_spaces(text: str) -> str:
    """The text without spaces at line ends, except in code."""
    if " \n" not in text and ((text.isascii() and "\t\n" not in text) or not TRAILING.search(text)):
        return text
    return outside_code(text, lambda piece: TRAILING.sub("", piece))


def with_blank_lines(text: str, maximum: int) -> str:
    """The text with at most so many blank lines in a row, except in code."""
    if "\n" not in text:
        return text
    blank_lines = re.compile(rf"\n(?:[^\S\n]*+\n){{{maximum + 1},}}+")
    if not blank_lines.search(text):
        return text
    return outside_code(text, lambda piece: blank_lines.sub("\n" * (maximum + 1), piece))


def stripped(text: str, keep_indentation: bool) -> str:
    """The text without white space around it.

    Args:
        text: the text.
        keep_indentation: whether a first line that is indented as code is (by four spaces or a tab, as in Markdown)
            stays indented: without it the body of a function would no longer run.
    """
    if not keep_indentation or not text[:1].isspace():
        return text.strip()
    indentation = INDENTATION.match(text)
    return text[indentation.start(1) :].rstrip() if indentation else text.strip()
