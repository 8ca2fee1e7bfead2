"""Histograms of counted bins: as SVG for a page, as a line of blocks for a terminal.

A histogram is `{"bounds": [...], "counts": [...]}`: one bound more than there are counts; a bin holds its lower bound,
and the last bin its upper bound too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from instruct_lab.pages.format import format_number
from instruct_lab.pages.page import Html, element

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*%#"
WIDTH, HEIGHT, FOOT = 360, 120, 18
"""Of the drawing, in its own units; it is scaled to the page."""
MAX_TICKS = 6
FILL = "#5b8def"
"""Where the page's style does not reach, such as in a copy of the drawing."""


def is_histogram(value: object) -> bool:
    """Whether a value is a histogram that can be drawn."""
    if not isinstance(value, dict) or set(value) != {"bounds", "counts"}:
        return False
    bounds, counts = value["bounds"], value["counts"]
    return (
        isinstance(bounds, list)
        and isinstance(counts, list)
        and 0 < len(counts) == len(bounds) - 1
        and all(isinstance(entry, int | float) for entry in (*bounds, *counts))
    )


def sparkline(counts: Sequence[float], width: int = 24, *, ascii_only: bool = False) -> str:
    """Counts as blocks of eight heights, at most `width` of them; a bin that is not empty shows.

    Args:
        counts: of the bins, in order.
        width: most characters; neighbouring bins are added up where there are more.
        ascii_only: for terminals that have no blocks.
    """
    together = -(-len(counts) // width) or 1
    sums = [sum(counts[start : start + together]) for start in range(0, len(counts), together)]
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    most = max(sums, default=0)
    return "".join(" " if not count else blocks[int((len(blocks) - 1) * count / most)] for count in sums)


def histogram_svg(histogram: dict[str, Any], label: str, unit: str = "") -> Html:
    """A figure with one bar a bin, its bounds and count told on pointing at it.

    Args:
        histogram: see `is_histogram`.
        label: stands below.
        unit: of the bounds, such as `tokens`.
    """
    bounds, counts = histogram["bounds"], histogram["counts"]
    most, step = max(counts) or 1, WIDTH / len(counts)
    drawn = []
    for index, count in enumerate(counts):
        low, high = bounds[index], bounds[index + 1]
        height = max(1.0, (HEIGHT - FOOT - 4) * count / most) if count else 0.0
        told = f"{format_number(low)} to {format_number(high)} {unit}".rstrip() + f": {format_number(count)}"
        place = {"x": f"{index * step + 0.5:.1f}", "width": f"{max(step - 1, 0.5):.1f}"}
        shape = {"y": f"{HEIGHT - FOOT - height:.1f}", "height": f"{height:.1f}", "class_": "bar"}
        drawn.append(element("rect", element("title", told), **place, **shape))
    line = {"x1": 0, "x2": WIDTH, "y1": HEIGHT - FOOT, "y2": HEIGHT - FOOT}
    svg = element(
        "svg",
        *drawn,
        element("line", **line, class_="axis"),
        *_ticks(bounds, step),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        fill=FILL,
        role="img",
        aria_label=f"{label}: {format_number(bounds[0])} to {format_number(bounds[-1])} {unit}".rstrip(),
    )
    return element("figure", svg, element("figcaption", label))


def _ticks(bounds: Sequence[float], step: float) -> list[Html]:
    every = -(-(len(bounds) - 1) // (MAX_TICKS - 1))
    last = len(bounds) - 1
    chosen = [*(index for index in range(0, last, every) if last - index >= every / 2), last]
    anchors = {0: "start", last: "end"}
    return [
        element(
            "text",
            format_number(bounds[index]),
            x=f"{index * step:.1f}",
            y=HEIGHT - 4,
            text_anchor=anchors.get(index, "middle"),
            font_size=11,
            class_="tick",
        )
        for index in chosen
    ]


def share_svg(share: float, label: str) -> Html:
    """A short bar that is filled to a share between 0 and 1."""
    filled = max(0.0, min(1.0, share))
    return element(
        "svg",
        element("title", label),
        element("rect", width=100, height=10, class_="bar", opacity=0.2),
        element("rect", width=f"{100 * filled:.1f}", height=10, class_="bar"),
        viewBox="0 0 100 10",
        fill=FILL,
        width=100,
        height=10,
        role="img",
        aria_label=label,
    )
