"""Collect the learning curves for the pages about runs; some points of very long curves are left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from instruct_lab.comparison.page.values import short

MAX_POINTS, MIN_POINTS = 500, 20
"""A curve keeps at most 20 to 500 points; the more curves the page has, the fewer points each curve may keep."""
CURVE_BYTES = 1_500_000
NUMBER_BYTES = 8
"""Approximate size in the page, in bytes, of a number with five digits."""


def curves(runs: Sequence[list[dict[str, Any]]]) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """Convert each run's logged values to curves; if a curve has too many points for the page, leave some out.

    Args:
        runs: for each run, the lines of its `metrics.jsonl` as dictionaries.

    Returns:
        The curves of each run, and a list of notes for the page, which is empty if no points were left out. The curves
        of a run are a list of dictionaries `{"step": [...], "seconds": [...], "values": {name: [...]}}`. Values that
        were logged in the same lines are in the same dictionary.
    """
    grouped = [_groups(lines) for lines in runs]
    width = sum(len(names) + 2 for groups in grouped for names in groups.values())
    most = max(MIN_POINTS, min(MAX_POINTS, CURVE_BYTES // (NUMBER_BYTES * max(width, 1))))
    thinned, found = 0, []
    for lines, groups in zip(runs, grouped, strict=True):
        of_run = []
        for indices, names in groups.items():
            guide = min(names, key=lambda name: (not name.endswith("/loss"), name))
            kept = thin([lines[index][guide] for index in indices], most)
            thinned += (len(kept) < len(indices)) * len(names)
            chosen = [lines[indices[index]] for index in kept]
            values = {name: [short(line[name]) for line in chosen] for name in names}
            axes = {axis: [short(line.get(axis)) for line in chosen] for axis in ("step", "seconds")}
            of_run.append({**axes, "values": values})
        found.append(of_run)
    note = (
        f"{thinned:,} curves were logged in more than {most} points and are thinned to about as many: each stretch "
        "keeps its lowest and its highest loss. metrics.jsonl of each run has all points."
    )
    return found, [note] if thinned else []


def _groups(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[int, ...], list[str]]:
    """Group the names of logged values that occur in exactly the same lines of `metrics.jsonl`.

    The result is keyed by the indices of these lines.
    """
    by_name: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        for name, value in line.items():
            if "/" in name and isinstance(value, int | float):
                by_name.setdefault(name, []).append(index)
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, indices in by_name.items():
        groups.setdefault(tuple(indices), []).append(name)
    return groups


def thin(values: Sequence[float], most: int) -> list[int]:
    """Choose about `most` points of a curve, or all points if there are no more than that.

    The curve is divided into sections of equal length. The chosen points are the first and the last of the curve, and
    the lowest and the highest of each section. A value that is not finite counts as the highest, so that it remains
    visible.

    Args:
        values: heights of the points.
        most: number of points to choose.

    Returns:
        The sorted indices of the chosen points.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = max(1, most // 2 - 1)

    def height(index: int) -> float:
        return values[index] if math.isfinite(values[index]) else math.inf

    kept = {0, len(values) - 1}
    for stretch in range(stretches):
        indices = range(stretch * len(values) // stretches, (stretch + 1) * len(values) // stretches)
        kept |= {min(indices, key=height), max(indices, key=height)}
    return sorted(kept)
