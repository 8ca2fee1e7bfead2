"""Conversations for benchmarks: real English sentences in random order, with lengths like instruction data."""

import json
import pydoc_data.topics
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROMPT_CHARACTERS = (5.0, 0.9)
"""Mean and deviation of the logarithm: median 150 characters, mean 220."""
ANSWER_CHARACTERS = (6.1, 0.9)
"""The same: median 450 characters, mean 670."""
SHORT_CHARACTERS = (3.4, 0.4)


def sentences() -> list[str]:
    """The sentences of Python's own reference, which comes with every Python."""
    text = " ".join(pydoc_data.topics.topics.values())
    return [sentence.strip() for sentence in re.split(r"(?<=[.:])\s+", text) if 20 < len(sentence) < 300]


def conversations(count: int, *, short: bool = False, seed: int = 0) -> Iterator[list[dict[str, str]]]:
    """Distinct conversations of two messages."""
    source, known = random.Random(seed), sentences()

    def text(characters: tuple[float, float]) -> str:
        wanted, chosen, length = source.lognormvariate(*characters), [], 0
        while length < wanted:
            chosen.append(source.choice(known))
            length += len(chosen[-1])
        return " ".join(chosen)[: max(20, int(wanted))]

    for number in range(count):
        prompt = text(SHORT_CHARACTERS if short else PROMPT_CHARACTERS)
        answer = text(SHORT_CHARACTERS if short else ANSWER_CHARACTERS)
        yield [
            {"role": "user", "content": f"Question {number}: {prompt}"},
            {"role": "assistant", "content": answer},
        ]


def write(path: Path, count: int, **fields: Any) -> float:
    """Write conversations as JSON lines; returns the mean number of bytes per line."""
    with path.open("w", encoding="utf-8") as stream:
        size = sum(stream.write(json.dumps({"messages": one}) + "\n") for one in conversations(count, **fields))
    return size / count
