"""Match the examples of several runs by their ids.

Equal rows of a data source have the same id; their order distinguishes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from instruct_lab.records.schema import PredictionLine

Key = tuple[str, int]
"""The id of an example, and the number of earlier lines of its split that have the same id."""


def key_predictions(lines: Iterable[PredictionLine]) -> dict[str, dict[Key, PredictionLine]]:
    """Return the lines of each split, keyed by the example's id and the number of earlier lines with this id.

    Args:
        lines: the lines of one run's `predictions.jsonl`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[str, dict[Key, PredictionLine]] = {}
    for line in lines:
        found.setdefault(line.split, {})[line.id, counts[line.split, line.id]] = line
        counts[line.split, line.id] += 1
    return found
