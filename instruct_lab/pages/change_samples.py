"""Samples of changed rows for the terminal: for each kind of change, the text before and after the change."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from instruct_lab.data.audit import num_equal_characters
from instruct_lab.pages.audit_stages import Reason, Sample, Stage
from instruct_lab.pages.word_difference import SPACES
from instruct_lab.terminal import visible

MAX_SAMPLES = 3
MAX_KINDS = 8
"""Maximum number of kinds of changes that are listed in the terminal; `audit.html` lists all kinds."""
CONTEXT, MAX_CHARACTERS = 16, 48
"""Number of unchanged characters shown on either side of a change, and maximum number of changed characters shown."""

SIZE = re.compile(r"… \(\d+ characters\)\Z")
"""Matches the ending that `audit.json` adds to a text that it contains only in part."""


def list_changes(stages: Sequence[Stage], arrow: str, width: int) -> list[str]:
    """List up to three samples of each kind of change, such as `clean, white space (a.jsonl:3): “a ·b” → “a b”`.

    Args:
        stages: stages of an audit, in order.
        arrow: the sign to print between the text before and the text after the change.
        width: maximum number of characters in a line; if the two texts do not fit on one line, the new text is
            printed on the next line.
    """
    changed = [(stage, reason) for stage in stages for reason in stage.reasons if reason.action == "changed"]
    lines = [line for stage, reason in changed[:MAX_KINDS] for line in _lines(stage, reason, arrow, width)]
    if lines and len(changed) > MAX_KINDS:
        lines.append(f"and {len(changed) - MAX_KINDS} more kinds of changes, see audit.html")
    return lines


def _lines(stage: Stage, reason: Reason, arrow: str, width: int) -> list[str]:
    lines: list[str] = []
    for sample in [sample for sample in reason.samples if sample.after is not None][:MAX_SAMPLES]:
        where = f" ({sample.where.rpartition('/')[2]})" if sample.where else ""
        before, after = shorten_change(sample)
        line = f"  {stage.name}, {reason.reason}{where}: {before}"
        whole = f"{line} {arrow} {after}"
        lines += [whole] if len(whole) <= width else [line, f"    {arrow} {after}"]
    return lines


def shorten_change(sample: Sample) -> tuple[str, str]:
    """Return the changed part of a text, before and after the change, in quotes and with some surrounding text.

    Changed white space and invisible characters are shown as visible signs. If the old and the new text look alike,
    code points are shown instead of non-ASCII characters.
    """
    before, after = (SIZE.sub("…", text) for text in (sample.before, sample.after or ""))
    head = num_equal_characters(before, after)
    rest = min(len(before), len(after)) - head
    tail = min(rest, num_equal_characters(before[::-1], after[::-1]))
    start = max(0, head - CONTEXT)
    lead = ("…" if start else "") + before[start:head]
    parts = [text[head : len(text) - tail] for text in (before, after)]
    ending = before[len(before) - tail :][:CONTEXT] + ("…" if tail > CONTEXT else "")
    rendered = [_signs(part) for part in parts]
    if _looks_alike(*parts):
        rendered = [part.encode("ascii", "backslashreplace").decode() for part in parts]
    first, second = (f"“{_plain(lead)}{_limit(part)}{_plain(ending)}”" for part in rendered)
    return first, second


def _signs(text: str) -> str:
    return visible("".join(SPACES.get(character, character) for character in text)).replace("\n", "")


def _plain(text: str) -> str:
    return visible(text).replace("\n", "↵").replace("\t", "⇥")


def _limit(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]} … {text[-half:]}"


def _looks_alike(before: str, after: str) -> bool:
    """Whether two texts differ only in their Unicode normalization form."""
    return before != after and unicodedata.normalize("NFC", before) == unicodedata.normalize("NFC", after)
