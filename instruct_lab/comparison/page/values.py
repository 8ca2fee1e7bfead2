"""Convert numbers and texts for the page's data: short, finite, and without invisible characters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from instruct_lab.records.record import RunRecord
from instruct_lab.terminal import visible
from instruct_lab.tracker.values import estimates_of, tracker_names

WHOLE = 2**53
"""The limit below which JavaScript represents every integer exactly."""
MAX_TEXT = 1_500
"""Maximum number of characters of a prompt, an answer or a reference."""


def logged_values(record: RunRecord) -> list[dict[str, Any]]:
    """Read a run's logged values; metrics estimated from a few answers are renamed, such as to `val/chrf_estimate`."""
    estimates = estimates_of(record.config)
    return [tracker_names(line, estimates) for line in record.read_metrics()]


def finite(value: Any, unit: float = 1.0) -> float | int | None:
    """Round a number to six significant digits unless it is whole; return `None` if it is not a finite number.

    Args:
        value: a value of any type.
        unit: factor that converts the number to another unit; unless it is 1, whole numbers are rounded too.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    is_whole = abs(value) < WHOLE and value == int(value)
    return int(value) if unit == 1 and is_whole else float(f"{value * unit:.6g}")


def measured(value: Any) -> float | int | None:
    """Round a metric's value to two decimals; if it is below 1 or not finite, round it as `finite` does.

    The page shows two decimals. If a value were rounded to more decimals here, the page would round it a second time,
    and its last digit could differ from the digit in the text output.
    """
    number = finite(value)
    return number if number is None or abs(number) < 1 else round(float(value), 2)


def short(value: Any) -> float | int | None:
    """Round a number to five significant digits unless it is whole; return `None` if it is not a finite number."""
    number = finite(value)
    return number if number is None or isinstance(number, int) else float(f"{number:.5g}")


def limit_text(value: Any, most: int = MAX_TEXT) -> str:
    """Cut a text to `most` characters; if any were cut, append their number."""
    text = str(value)
    left = len(text) - most
    return visible(text if left <= 0 else f"{text[:most]} … ({left:,} more characters)")


def keys_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return all keys of several mappings, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))
