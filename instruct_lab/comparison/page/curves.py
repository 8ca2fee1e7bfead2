"""Learning curves for a page: what runs logged, thinned to a number of points that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.comparison.page.values import short

MAX_POINTS, MIN_POINTS = 500, 20
"""Of one curve."""
CURVE_BYTES = 1_500_000
NUMBER_BYTES = 8
"""What a number of five digits takes, about."""


def curves(runs: Sequence[list[dict[str, Any]]]) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """Each run's logged values, thinned, as `{"step", "seconds", "values": {name: [...]}}` for names logged together.

    Args:
        runs: the lines of each run's `metrics.jsonl`.
    """
    grouped = [_groups(lines) for lines in runs]
    width = sum(len(names) + 2 for groups in grouped for names in groups.values())
    most = max(MIN_POINTS, min(MAX_POINTS, CURVE_BYTES // (NUMBER_BYTES * max(width, 1))))
    thinned, told = 0, []
    for lines, groups in zip(runs, grouped, strict=True):
        of_run = []
        for places, names in groups.items():
            guide = min(names, key=lambda name: (not name.endswith("/loss"), name))
            kept = thin([lines[place][guide] for place in places], most)
            thinned += (len(kept) < len(places)) * len(names)
            chosen = [lines[places[place]] for place in kept]
            values = {name: [short(line[name]) for line in chosen] for name in names}
            axes = {axis: [short(line.get(axis)) for line in chosen] for axis in ("step", "seconds")}
            of_run.append({**axes, "values": values})
        told.append(of_run)
    note = (
        f"{thinned:,} curves were logged in more than {most} points and are thinned to about as many: of each stretch "
        "the lowest and the highest loss are kept. metrics.jsonl of each run has all of them."
    )
    return told, [note] if thinned else []


def _groups(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[int, ...], list[str]]:
    """Places of lines to the names that were logged in exactly these."""
    places: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        for name, value in line.items():
            if "/" in name and isinstance(value, int | float):
                places.setdefault(name, []).append(place)
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, found in places.items():
        groups.setdefault(tuple(found), []).append(name)
    return groups


def thin(values: Sequence[float], most: int) -> list[int]:
    """Places of at most about `most` values: the ends, and of each stretch the lowest and the highest.

    A value that is not finite counts as the highest, so that it stays visible that there was one.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = max(1, most // 2 - 1)

    def height(place: int) -> float:
        return values[place] if math.isfinite(values[place]) else math.inf

    kept = {0, len(values) - 1}
    for stretch in range(stretches):
        places = range(stretch * len(values) // stretches, (stretch + 1) * len(values) // stretches)
        kept |= {min(places, key=height), max(places, key=height)}
    return sorted(kept)
