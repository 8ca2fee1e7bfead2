"""Convert numbers and texts for the data of a page about runs.

Numbers are rounded, numbers that are not finite are replaced by `None`, and long texts are cut.
"""

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
"""Maximum number of characters that a page shows of a prompt, an answer or a reference."""


def logged_values(record: RunRecord) -> list[dict[str, Any]]:
    """Read the values that a run logged during training, as one dictionary for each line of its `metrics.jsonl`.

    Metrics that were estimated from only a few answers are renamed, for example from `val/chrf` to `val/chrf_estimate`.
    """
    estimates = estimates_of(record.config)
    return [tracker_names(line, estimates) for line in record.read_metrics()]


def finite(value: Any, unit: float = 1.0) -> float | int | None:
    """Multiply a number by `unit`, and round it to six significant digits.

    A whole number below 2^53 is returned without rounding if `unit` is 1.

    Args:
        value: a value of any type.
        unit: factor that converts the number to another unit.

    Returns:
        The number; `None` if `value` is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    is_whole = abs(value) < WHOLE and value == int(value)
    return int(value) if unit == 1 and is_whole else float(f"{value * unit:.6g}")


def measured(value: Any) -> float | int | None:
    """Round a metric's value to two decimals or, if its magnitude is below 1, to six significant digits.

    The page shows two decimals. If a value were rounded to more decimals here, the page would round it a second time,
    and its last digit could differ from the digit in the text output.

    Returns:
        The rounded value; `None` if `value` is not a finite number.
    """
    number = finite(value)
    return number if number is None or abs(number) < 1 else round(float(value), 2)


def short(value: Any) -> float | int | None:
    """Round a number to five significant digits; do not round whole numbers below 2^53.

    Returns:
        The number; `None` if `value` is not a finite number.
    """
    number = finite(value)
    return number if number is None or isinstance(number, int) else float(f"{number:.5g}")


def limit_text(value: Any, most: int = MAX_TEXT) -> str:
    """Cut a text to `most` characters; if any were cut, append how many. Make invisible characters visible."""
    text = str(value)
    left = len(text) - most
    return visible(text if left <= 0 else f"{text[:most]} … ({left:,} more characters)")


def keys_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return all keys of several mappings, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in rows for key in row))
