"""Location of code in Markdown texts: fenced blocks and inline code."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator

Span = tuple[int, int]

FENCE = re.compile(r"^[ \t]*+(`{3,}+|~{3,}+)([^\n]*+)", re.MULTILINE)
BACKTICKS = re.compile("`++")


def change_outside_code(text: str, change: Callable[[str], str]) -> str:
    """Apply `change` to each part of a Markdown text that is not code."""
    if "`" not in text and "~~~" not in text:
        return change(text)
    return "".join(piece if is_code else change(piece) for is_code, piece in split_code(text))


def split_code(text: str) -> Iterator[tuple[bool, str]]:
    """Split a text where code begins and ends; yield pairs (whether the substring is code, the substring)."""
    end = 0
    for start, stop in code_spans(text):
        if end < start:
            yield False, text[end:start]
        yield True, text[start:stop]
        end = stop
    if end < len(text):
        yield False, text[end:]


def code_spans(text: str) -> list[Span]:
    """Return the start and end index of each fenced block and each inline code, including the fences or backticks.

    Fences are those of CommonMark, but may be indented by any number of spaces. A fence or a run of three or more
    backticks that is never closed extends to the end of the text. Inline code in one or two backticks cannot extend
    beyond its paragraph.
    """
    if "`" not in text and "~~~" not in text:
        return []
    spans: list[Span] = []
    end = 0
    for start, stop in _fenced_spans(text):
        spans += _inline_spans(text, end, start)
        spans.append((start, stop))
        end = stop
    spans += _inline_spans(text, end, len(text))
    return spans


def _fenced_spans(text: str) -> Iterator[Span]:
    mark, begin = "", 0
    for line in FENCE.finditer(text):
        run, info = line.group(1), line.group(2)
        if not mark:
            if run[0] == "~" or "`" not in info:  # "```x```" on one line is inline code
                mark, begin = run, line.start()
        elif run.startswith(mark) and not info.strip():
            yield begin, line.end()
            mark = ""
    if mark:
        yield begin, len(text)


def _inline_spans(text: str, begin: int, end: int) -> Iterator[Span]:
    runs = [(run.start(), run.end()) for run in BACKTICKS.finditer(text, begin, end)]
    of_length: dict[int, list[int]] = {}
    for number, (start, stop) in enumerate(runs):
        of_length.setdefault(stop - start, []).append(number)
    number = 0
    while number < len(runs):
        start, stop = runs[number]
        same = of_length[stop - start]
        later = bisect.bisect_right(same, number)
        closing = same[later] if later < len(same) else None
        if stop - start >= 3 and closing is None:
            yield start, end
            return
        if closing is None or (stop - start < 3 and "\n\n" in text[stop : runs[closing][0]]):
            number += 1
            continue
        yield start, runs[closing][1]
        number = closing + 1
