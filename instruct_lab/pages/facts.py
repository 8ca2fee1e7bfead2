"""Rendering of the facts of an audit as tables, histograms and lists.

Facts are the values in `audit.json` other than counts of rows: any dictionaries, lists, numbers or texts that data
sources, preprocessing steps and batching report.
"""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from instruct_lab.pages.format import format_number
from instruct_lab.pages.histogram import histogram_svg, is_histogram, share_bar
from instruct_lab.pages.render import render_part, render_table

MAX_ROWS = 100
MAX_COLUMNS = 20
MAX_DEPTH = 5
MAX_CHARACTERS = 2000


def render_fact(value: Any, label: str = "", depth: int = 0) -> Markup:
    """Render one fact; what is too long for a page is cut, and a note says so.

    Args:
        value: the fact, made of dictionaries, lists, numbers and texts. A dictionary of dictionaries becomes a table
            with a row for each inner one. A dictionary of counts gets bars. A dictionary with the keys `bounds` and
            `counts` becomes a histogram.
        label: caption of the fact's histograms.
        depth: nesting level inside other facts.
    """
    if is_histogram(value):
        return histogram_svg(value, label)
    if depth >= MAX_DEPTH and isinstance(value, dict | list):
        return render_part("paragraph", _shorten(json.dumps(value, ensure_ascii=False, default=str)), "text")
    if isinstance(value, dict) and value:
        return _render_dictionary(value, depth)
    if isinstance(value, list) and value:
        return _render_list(value, label, depth)
    return render_part("paragraph", _format_scalar(value if value not in ({}, []) else None))


def _render_dictionary(value: dict[str, Any], depth: int) -> Markup:
    if all(_is_flat(inner) for inner in value.values()):
        return _rows_table("", value)
    if all(_is_scalar(inner) for inner in value.values()):
        return _render_scalars(value)
    scalars = {name: inner for name, inner in value.items() if _is_scalar(inner)}
    parts = [_render_scalars(scalars)] if scalars else []
    for name, inner in list(value.items())[:MAX_ROWS]:
        if name not in scalars:
            parts.append(render_part("titled", name, render_fact(inner, str(name), depth + 1)))
    return _join([*parts, _left_out(len(value))])


def _render_list(value: list[Any], label: str, depth: int) -> Markup:
    if all(_is_flat(inner) for inner in value):
        return _rows_table("", {str(index + 1): inner for index, inner in enumerate(value)})
    if all(_is_scalar(inner) for inner in value):
        shown = ", ".join(_format_scalar(inner) for inner in value[:MAX_ROWS])
        return _join([render_part("paragraph", shown), _left_out(len(value))])
    items = [render_fact(inner, label, depth + 1) for inner in value[:MAX_ROWS]]
    return _join([render_part("bullets", items), _left_out(len(value))])


def _render_scalars(value: dict[str, Any]) -> Markup:
    """Render a table of names and values; if all values are counts, each gets a bar."""
    rows = list(value.items())[:MAX_ROWS]
    counts = [v for _, v in rows if isinstance(v, int | float) and not isinstance(v, bool)]
    highest = max(counts, default=0)
    if len(counts) < len(rows) or len(rows) < 2 or highest <= 0 or min(counts) < 0:
        cells = [[_shorten(str(name)), v if isinstance(v, int | float) else _format_scalar(v)] for name, v in rows]
        return _join([render_table(["", ""], cells), _left_out(len(value))])
    barred = [[_shorten(str(name)), v, share_bar(v / highest, f"{name}: {format_number(v)}")] for name, v in rows]
    return _join([render_table(["", "", ""], barred), _left_out(len(value))])


def _rows_table(corner: str, value: dict[str, dict[str, Any]]) -> Markup:
    columns = list(dict.fromkeys(name for inner in value.values() for name in inner))
    shown = columns[:MAX_COLUMNS]
    first = list(value.items())[:MAX_ROWS]
    rows = [[_shorten(name), *(_cell_value(inner.get(column)) for column in shown)] for name, inner in first]
    table = render_table([corner, *shown], rows)
    return _join([table, _left_out(len(value)), _left_out(len(columns), MAX_COLUMNS, "columns")])


def _left_out(count: int, most: int = MAX_ROWS, what: str = "entries") -> Markup:
    if count <= most:
        return Markup()
    return render_part("paragraph", f"and {count - most:,} more {what} in audit.json", "dim")


def _join(parts: list[Markup]) -> Markup:
    return Markup("").join(parts)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_flat(value: object) -> bool:
    """Whether a value can be a row of a table: a dictionary whose values are numbers, texts or `None`."""
    return isinstance(value, dict) and bool(value) and all(_is_scalar(inner) for inner in value.values())


def _cell_value(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else _shorten(str(value))


def _format_scalar(value: object) -> str:
    return _shorten(format_number(value))


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}… ({len(text):,} characters)"
