"""Suggest the closest valid spelling of a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """Return the valid name whose spelling is closest to a word.

    The result is `None` if the word is itself valid, or if no valid name resembles it.
    """
    names = list(valid)
    if word in names:
        return None
    for name in names:
        if name.replace("_", "").casefold() == word.replace("_", "").replace("-", "").casefold():
            return name
    matches = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if matches:
        return matches[0]
    starting = [name for name in names if len(word) > 1 and (name.startswith(word) or word.startswith(name + "_"))]
    return starting[0] if len(starting) == 1 else None
