"""Find the same example in the predictions of several runs, by its id.

Identical rows of a data source have the same id. Such examples are matched by their order in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from instruct_lab.records.schema import PredictionLine

Key = tuple[str, int]
"""The id of an example, and the number of earlier lines of its split that have the same id."""


def key_predictions(lines: Iterable[PredictionLine]) -> dict[str, dict[Key, PredictionLine]]:
    """Return the predictions of one run, keyed by split and then by example.

    The key of an example is a pair: its id, and the number of earlier lines of the split that have the same id.

    Args:
        lines: the lines of the run's `predictions.jsonl`.
    """
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[str, dict[Key, PredictionLine]] = {}
    for line in lines:
        found.setdefault(line.split, {})[line.id, counts[line.split, line.id]] = line
        counts[line.split, line.id] += 1
    return found
