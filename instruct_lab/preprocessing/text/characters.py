"""Removal of control characters, undecodable characters and superfluous white space."""

from __future__ import annotations

import re

from instruct_lab.preprocessing.text.code_spans import change_outside_code

UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufeff\ud800-\udfff]")
ASCII_LINE_ENDS = re.compile("\r\n?|\x0b|\x0c")
TERMINAL_ESCAPE = re.compile("\x1b\\[[0-?]*+[ -/]*+[@-~]")  # colours and cursor movements (ECMA-48)
ASCII_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff]")  # except tab and line ends
SURROGATE = re.compile("[\ud800-\udfff]")
OTHER_UNWANTED = re.compile("[\x80-\x9f\u2028\u2029]")
OTHER_CONTROL = re.compile("([\xc2-\xf4][\x80-\xbf]+)|(\r\n?|[\x85\u2028\u2029])|[\x80-\x9f]")
"""Matches a UTF-8 sequence that was decoded as Latin-1, a line end, or another control character."""
LOST = "\ufffd"

TRAILING_SPACES = re.compile(r"(?<![^\S\n])[^\S\n]++(?=\n)")
INDENTATION = re.compile(r"(?:[^\S\n]*+\n)*((?: {4}|\t)[ \t]*+)(?=\S)")


def remove_ascii_control(text: str) -> str:
    """Remove ASCII control characters, terminal colours and byte order marks.

    ASCII line ends (also vertical tab and form feed) are replaced by a newline. A surrogate pair is replaced by the
    character that it encodes, and a single surrogate by U+FFFD.
    """
    if not UNWANTED.search(text):
        return text
    if SURROGATE.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = TERMINAL_ESCAPE.sub("", ASCII_LINE_ENDS.sub("\n", text))
    return ASCII_CONTROL.sub("", text)


def remove_other_control(text: str) -> str:
    """Remove non-ASCII control characters, and replace non-ASCII line ends by a newline.

    A control character stays if it is part of mojibake: UTF-8 text decoded as Latin-1, in which for example `â` and
    two control characters stand for an apostrophe. The repair of mojibake needs these characters, so repair it before
    you call this function.
    """
    if text.isascii() or not OTHER_UNWANTED.search(text):
        return text
    return OTHER_CONTROL.sub(lambda found: found[1] or ("\n" if found[2] else ""), text)


def remove_lost(text: str) -> str:
    """Remove the character U+FFFD, which decoders insert for bytes that they cannot decode."""
    return text.replace(LOST, "")


def remove_trailing_spaces(text: str) -> str:
    """Remove spaces at line ends, except in code."""
    if " \n" not in text and ((text.isascii() and "\t\n" not in text) or not TRAILING_SPACES.search(text)):
        return text
    return change_outside_code(text, lambda piece: TRAILING_SPACES.sub("", piece))


def limit_blank_lines(text: str, maximum: int) -> str:
    """Keep at most `maximum` consecutive blank lines, except in code."""
    if "\n" not in text:
        return text
    blank_lines = re.compile(rf"\n(?:[^\S\n]*+\n){{{maximum + 1},}}")
    if not blank_lines.search(text):
        return text
    return change_outside_code(text, lambda piece: blank_lines.sub("\n" * (maximum + 1), piece))


def strip_text(text: str, keep_indentation: bool) -> str:
    """Remove white space at the start and the end of a text.

    Args:
        text: the text.
        keep_indentation: whether to keep the first line's indentation if it begins with four spaces or a tab, which
            Markdown reads as code. A text that is the body of a Python function is not valid code without it.
    """
    if not keep_indentation or not text[:1].isspace():
        return text.strip()
    indentation = INDENTATION.match(text)
    return text[indentation.start(1) :].rstrip() if indentation else text.strip()
