"""Formatting of values and tables as text; each kind of value has the same format in every report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instruct_lab.metrics import MetricValue


def format_number(value: object) -> str:
    """Format a value for tables: thousands are separated, floats get four significant digits, `None` becomes a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def format_count(value: float | None) -> str:
    """Format a count in at most seven characters: `12,345`, `1.2 M`."""
    if value is None:
        return "-"
    if value < 1e6:
        return format_number(value)
    return f"{value / 1e6:,.1f} M" if value < 1e9 else f"{value / 1e9:,.1f} G"


def format_percent(share: float | None) -> str:
    """Format a fraction between 0 and 1 as a percentage with three significant digits."""
    if not share:
        return "-" if share is None else "0 %"
    return f"{100 * share:#.3g}".rstrip(".") + " %"


def format_interval(
    value: float, low: float, high: float, *, digits: int = 2, signed: bool = False, separator: str = " "
) -> str:
    """Format a value with its interval: `31.20 [30.05, 32.41]`.

    Args:
        value: the measured value.
        low: lower end of the interval.
        high: upper end of the interval.
        digits: number of digits after the decimal point.
        signed: whether positive numbers get a plus sign, as is usual for differences.
        separator: text between the value and its interval.
    """
    form = f"{'+' if signed else ''}.{digits}f"
    return f"{value:{form}}{separator}[{low:{form}}, {high:{form}}]"


IS_BENCHMARK = "|better:"
"""Text that the signature of each benchmark score contains; a signature records how a score was measured."""


def format_metric(value: MetricValue | None, separator: str = " ") -> str:
    """Format a metric's value and, after `separator`, its interval; return a dash if the value is missing or NaN."""
    if value is None or math.isnan(value.value):
        return "-"
    return format_interval(value.value, value.low, value.high, digits=digits_of(value), separator=separator)


def digits_of(*values: MetricValue | None) -> int:
    """Return the number of digits after the decimal point with which reports show these values.

    It is 4 if one of the values is a benchmark score, since such scores can lie between 0 and 1; otherwise it is 2.
    """
    return 4 if any(value is not None and IS_BENCHMARK in value.signature for value in values) else 2


def format_age(seconds: float) -> str:
    """Format an age in at most six characters: `8 s`, `12 min`, `5 h`, `3 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def format_bytes(count: float) -> str:
    """Format bytes as `1.5 GB` or `12.34 MB`, in powers of ten."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def shorten(text: str, max_characters: int) -> str:
    """Put a text on one line, and cut it after `max_characters`."""
    line = " ".join(text.split())
    return line if len(line) <= max_characters else f"{line[:max_characters]}…"


def escape_markdown(text: str) -> str:
    """Escape `|` and `<`, which Markdown interprets as the border of a table cell and the start of HTML."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table; its cells are escaped."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(escape_markdown, line)) + " |" for line in lines)
