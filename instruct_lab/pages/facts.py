"""Facts of any shape that JSON can hold, as markup: tables, histograms, lists."""

from __future__ import annotations

import json
from typing import Any

from instruct_lab.pages.format import format_number
from instruct_lab.pages.histogram import histogram_svg, is_histogram, share_svg
from instruct_lab.pages.page import Html, element, joined, table

MAX_ROWS = 100
MAX_COLUMNS = 20
MAX_DEPTH = 5
MAX_CHARACTERS = 2000


def fact(value: Any, label: str = "", depth: int = 0) -> Html:
    """One fact; what is too long for a page is cut with a word about it.

    Args:
        value: as JSON can hold it. A dictionary of dictionaries is a table, a row each; a dictionary of counts has
            bars; `{"bounds", "counts"}` is a histogram.
        label: names it in figures.
        depth: how far inside other facts it stands.
    """
    if is_histogram(value):
        return histogram_svg(value, label)
    if depth >= MAX_DEPTH and isinstance(value, dict | list):
        return element("p", _short(json.dumps(value, ensure_ascii=False, default=str)), class_="text")
    if isinstance(value, dict) and value:
        return _dictionary(value, depth)
    if isinstance(value, list) and value:
        return _list(value, label, depth)
    return element("p", _scalar(value if value not in ({}, []) else None))


def _dictionary(value: dict[str, Any], depth: int) -> Html:
    if all(_is_flat(inner) for inner in value.values()):
        return _rows_table("", value)
    if all(_is_scalar(inner) for inner in value.values()):
        return _scalars(value)
    scalars = {name: inner for name, inner in value.items() if _is_scalar(inner)}
    parts = [_scalars(scalars)] if scalars else []
    for name, inner in list(value.items())[:MAX_ROWS]:
        if name not in scalars:
            parts.append(element("div", element("h3", name), fact(inner, str(name), depth + 1)))
    return joined([*parts, _left_out(len(value))])


def _list(value: list[Any], label: str, depth: int) -> Html:
    if all(_is_flat(inner) for inner in value):
        return _rows_table("", {str(index + 1): inner for index, inner in enumerate(value)})
    if all(_is_scalar(inner) for inner in value):
        shown = ", ".join(_scalar(inner) for inner in value[:MAX_ROWS])
        return joined([element("p", shown), _left_out(len(value))])
    parts = (element("li", fact(inner, label, depth + 1)) for inner in value[:MAX_ROWS])
    return joined([element("ul", *parts), _left_out(len(value))])


def _scalars(value: dict[str, Any]) -> Html:
    """Names and values; bars beside counts."""
    rows = list(value.items())[:MAX_ROWS]
    counts = [v for _, v in rows if isinstance(v, int | float) and not isinstance(v, bool)]
    most = max(counts, default=0)
    if len(counts) < len(rows) or len(rows) < 2 or most <= 0 or min(counts) < 0:
        cells = [[_short(str(name)), v if isinstance(v, int | float) else _scalar(v)] for name, v in rows]
        return joined([table(["", ""], cells), _left_out(len(value))])
    barred = [[_short(str(name)), v, share_svg(v / most, f"{name}: {format_number(v)}")] for name, v in rows]
    return joined([table(["", "", ""], barred), _left_out(len(value))])


def _rows_table(corner: str, value: dict[str, dict[str, Any]]) -> Html:
    columns = list(dict.fromkeys(name for inner in value.values() for name in inner))
    shown = columns[:MAX_COLUMNS]
    rows = [[_short(name), *(_cell(inner.get(c)) for c in shown)] for name, inner in list(value.items())[:MAX_ROWS]]
    return joined(
        [table([corner, *shown], rows), _left_out(len(value)), _left_out(len(columns), MAX_COLUMNS, "columns")]
    )


def _left_out(count: int, most: int = MAX_ROWS, what: str = "entries") -> Html:
    return element("p", f"and {count - most:,} more {what} in audit.json", class_="dim") if count > most else Html("")


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_flat(value: object) -> bool:
    """Whether a value is a row of a table: a dictionary whose values fit cells."""
    return isinstance(value, dict) and bool(value) and all(_is_scalar(inner) for inner in value.values())


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else _short(str(value))


def _scalar(value: object) -> str:
    return _short(format_number(value))


def _short(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text):,} characters)"
