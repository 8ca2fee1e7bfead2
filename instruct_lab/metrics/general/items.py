"""Reading of the texts and questions in `items.jsonl`."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path

FILE = Path(__file__).parent / "items.jsonl"


@dataclasses.dataclass(frozen=True, slots=True)
class GeneralItem:
    """A text, and a question of general knowledge that has nothing to do with the text.

    Args:
        kind: kind of the text, such as `history`, `code` or `french`.
        text: the text.
        question: the question.
        choices: the possible answers; the first one is right.
    """

    kind: str
    text: str
    question: str
    choices: tuple[str, ...]


@functools.cache
def read_items() -> tuple[GeneralItem, ...]:
    """Read all texts and questions of the package, in the order of the file."""
    lines = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return tuple(GeneralItem(line["kind"], line["text"], line["question"], tuple(line["choices"])) for line in lines)


@functools.cache
def items_version() -> str:
    """Return the version of the texts and questions: the first 8 digits of the SHA-256 of `items.jsonl`.

    The signatures of the scores (the texts on how they are computed) contain this version.
    """
    return hashlib.sha256(FILE.read_bytes()).hexdigest()[:8]
