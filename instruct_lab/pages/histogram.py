"""Drawing of histograms as SVG for a page, or as a line of block characters for a terminal.

A histogram is `{"bounds": [...], "counts": [...]}` with one bound more than counts. A bin includes its lower bound; the
last bin also includes its upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from instruct_lab.pages.format import format_number
from instruct_lab.pages.render import render_part

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*%#"
WIDTH, HEIGHT, FOOT, HEAD = 360, 132, 18, 16
"""Width and height of the drawing, and heights of the spaces below and above its bars, in SVG units."""
MAX_TICKS = 6


def is_histogram(value: object) -> bool:
    """Whether a value is a dictionary with the bounds and counts of a histogram that can be drawn."""
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
    """Draw counts as one line of block characters of eight heights; only empty bins are blank.

    Args:
        counts: counts of the bins, in order.
        width: maximum number of characters; if there are more bins, neighbouring bins are merged.
        ascii_only: whether to use only ASCII characters, for terminals without block characters.
    """
    merged = -(-len(counts) // width) or 1  # bins for each character
    sums = [sum(counts[start : start + merged]) for start in range(0, len(counts), merged)]
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    most = max(sums, default=0)
    return "".join(" " if not count else blocks[int((len(blocks) - 1) * count / most)] for count in sums)


def histogram_svg(histogram: dict[str, Any], label: str, unit: str = "") -> Markup:
    """Draw a histogram as SVG, with a bar for each bin; pointing at a bar shows the bounds and the count of its bin.

    Args:
        histogram: `{"bounds": [...], "counts": [...]}`, with one bound more than counts.
        label: the caption.
        unit: unit of the bounds, such as `tokens`.
    """
    bounds, counts = histogram["bounds"], histogram["counts"]
    highest, step = max(counts) or 1, WIDTH / len(counts)
    bars = []
    for index, count in enumerate(counts):
        height = max(1.0, (HEIGHT - FOOT - HEAD) * count / highest) if count else 0.0
        bars.append(
            {
                "x": f"{index * step + 0.5:.1f}",
                "width": f"{max(step - 1, 0.5):.1f}",
                "y": f"{HEIGHT - FOOT - height:.1f}",
                "height": f"{height:.1f}",
                "text": f"{_range(bounds[index], bounds[index + 1], unit)}: {format_number(count)}",
            }
        )
    figure = {
        "label": label,
        "description": f"{label}: {_range(bounds[0], bounds[-1], unit)}",
        "bars": bars,
        "ticks": _ticks(bounds, step),
        "size": (WIDTH, HEIGHT),
        "baseline": HEIGHT - FOOT,
        "top": (HEAD, format_number(highest)),
    }
    return render_part("histogram", figure)


def _range(low: float, high: float, unit: str) -> str:
    return f"{format_number(low)} to {format_number(high)} {unit}".rstrip()


def _ticks(bounds: Sequence[float], step: float) -> list[dict[str, str]]:
    every = -(-(len(bounds) - 1) // (MAX_TICKS - 1))
    last = len(bounds) - 1
    chosen = [*(index for index in range(0, last, every) if last - index >= every / 2), last]
    anchors = {0: "start", last: "end"}
    return [
        {"x": f"{index * step:.1f}", "anchor": anchors.get(index, "middle"), "text": format_number(bounds[index])}
        for index in chosen
    ]


def share_bar(share: float, label: str) -> Markup:
    """Draw a short bar, filled to the fraction `share` (0 to 1) of its length; `label` describes the bar."""
    return render_part("share_bar", max(0.0, min(1.0, share)), label)
