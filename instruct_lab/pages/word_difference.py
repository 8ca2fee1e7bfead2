"""Find the words that differ between two versions of a text."""

from __future__ import annotations

import dataclasses
import difflib
import re

WORDS = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|\s|[^\w\s]+")
"""Matches a word, a character of white space or a sequence of punctuation; in scripts without spaces, a character."""
MAX_WORDS = 600
"""Maximum number of words in each version; since comparing takes quadratic time, longer texts differ as a whole."""
SPACES = {" ": "·", "\u00a0": "⍽", "\t": "⇥\t", "\n": "↵\n", "\r": "␍"}
"""Visible signs for white space in the parts that differ."""


@dataclasses.dataclass(frozen=True)
class Words:
    """A part of one version of a text, and whether it differs from the other version.

    Args:
        text: the text of the part; if it differs, white space is replaced by the signs in `SPACES`.
        differs: whether the part differs from the other version of the text.
        code_points: code points of the text, since different characters may look alike; `None` if the text does not
            differ, is long or is ASCII.
    """

    text: str
    differs: bool = False
    code_points: str | None = None


def word_difference(before: str, after: str) -> tuple[list[Words], list[Words]]:
    """Divide each of two versions of a text into parts that both versions have in common and parts that differ.

    If a version has more than 600 words (`MAX_WORDS`), each version is one part that differs.

    Returns:
        The parts of the version before the change, and the parts of the version after it, both in order.
    """
    old, new = WORDS.findall(before), WORDS.findall(after)
    if len(old) > MAX_WORDS or len(new) > MAX_WORDS:
        return [Words(before, differs=True)], [Words(after, differs=True)]
    removed: list[Words] = []
    added: list[Words] = []
    matcher = difflib.SequenceMatcher(str.isspace, old, new, autojunk=False)  # white space does not count as a match
    for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        for found, text in ((removed, "".join(old[old_start:old_end])), (added, "".join(new[new_start:new_end]))):
            if text:
                found.append(Words(text) if kind == "equal" else _differing(text))
    return removed, added


def _differing(text: str) -> Words:
    shown = "".join(SPACES.get(character, character) for character in text)
    is_short = not text.isascii() and len(text) <= 12
    return Words(shown, differs=True, code_points=" ".join(f"U+{ord(c):04X}" for c in text) if is_short else None)
