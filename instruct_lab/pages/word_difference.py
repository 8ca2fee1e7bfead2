"""Two texts beside each other, the words that differ marked."""

from __future__ import annotations

import difflib
import re

from instruct_lab.pages.page import Html, element, escaped, joined

WORDS = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|\s|[^\w\s]+")
"""Words, with each character of the scripts that write none apart."""
MAX_WORDS = 600
"""Longer texts are marked as a whole: comparing them takes the square of this."""
SPACES = {" ": "·", "\u00a0": "⍽", "\t": "⇥\t", "\n": "↵\n", "\r": "␍"}
"""What stands for white space that differs."""


def word_difference(before: str, after: str) -> tuple[Html, Html]:
    """Both texts as markup: what is gone marked in the first, what is new in the second."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    if len(old) > MAX_WORDS or len(new) > MAX_WORDS:
        return element("del", before), element("ins", after)
    removed, added = [], []
    matcher = difflib.SequenceMatcher(str.isspace, old, new, autojunk=False)  # white space alone is no match
    for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        gone, come = "".join(old[old_start:old_end]), "".join(new[new_start:new_end])
        if kind == "equal":
            removed.append(escaped(gone))
            added.append(escaped(come))
            continue
        if gone:
            removed.append(_marked("del", gone))
        if come:
            added.append(_marked("ins", come))
    return joined(removed), joined(added)


def _marked(tag: str, text: str) -> Html:
    """The text with its white space made visible, and its code points told where they are few and not ASCII."""
    shown = "".join(SPACES.get(character, character) for character in text)
    points = " ".join(f"U+{ord(c):04X}" for c in text) if not text.isascii() and len(text) <= 12 else None
    return element(tag, shown, title=points)
