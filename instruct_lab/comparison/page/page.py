"""A comparison of runs as one self-contained HTML page: table, curves, parallel coordinates, scatter, predictions.

The charts are drawn by Apache ECharts, which stands beside this file as its authors publish it (`echarts/`, version
6.1.0, with its licence) and is put into the page whole; so the page needs no package and no network. Measured against
it (figures in `tests/benchmarks/README.md`): plotly needs more than two seconds to open, and WebGL for parallel
coordinates; Bokeh and Vega-Lite have no parallel coordinates, and their Python packages are larger than the library.
To take a newer version, replace the three files by those of the package `echarts`, and the hash in the page's test.

The page's own script is in `comparison_view/`, a file for each part. It makes elements from text alone, never from
markup, and ECharts shows what we hand it on a canvas; the content policy of `page` names every script by its hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from instruct_lab.comparison.compare import Comparison
from instruct_lab.comparison.page.data import comparison_data
from instruct_lab.comparison.text import conclusion, tables
from instruct_lab.pages.page import Html, data_block, element, folded, joined, page, section, table, write_page
from instruct_lab.records.record import RunRecord

HERE = Path(__file__).parent
ECHARTS = HERE / "echarts" / "echarts.min.js"
VIEW = HERE / "view"
SCRIPTS = ("state", "table", "charts", "curves", "parallel", "scatter", "predictions", "main")
SIDE_BY_SIDE = 6
"""Runs whose configs have a column each; of more, each value is told with its runs."""
WORDS = {"not distinguishable": "not distinguishable from it", "differs": "differ"}
MAX_NAMED = 8
MAX_ROWS = 200


def write_comparison(path: Path, records: Sequence[RunRecord], compared: Comparison) -> Path:
    """Write the page; returns where it is.

    Args:
        path: of the file.
        records: every run that the page shows, unfinished ones too.
        compared: the finished ones of them beside each other.

    Raises:
        InstructLabError: the file cannot be written.
    """
    write_page(path, comparison_page(records, compared))
    return path


def comparison_page(records: Sequence[RunRecord], compared: Comparison) -> str:
    """The page; nothing from the data is taken for markup, and no request leaves it."""
    data, notes = comparison_data(records, compared)
    labels = dict(zip((record.id for record in records), (run["label"] for run in data["runs"]), strict=True))
    names = list(dict.fromkeys(record.name for record in records))
    own = "".join((VIEW / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return page(
        f"{len(records)} runs of {', '.join(names[:3])}{' …' if len(names) > 3 else ''}",
        _conclusion(compared),
        *(element("p", note, class_="dim") for note in [*_left_out(records, compared), *notes]),
        _part("body"),
        element("div", section("What differs in the configs", _config(compared, labels)), id="configs"),
        element("div", section("Differences, effects and fronts", *_statistics(compared)), id="differences"),
        _part("predictions"),
        data_block("data", data),
        styles=[(VIEW / "style.css").read_text(encoding="utf-8")],
        scripts=[ECHARTS.read_text(encoding="utf-8"), f"(() => {{\n{own}}})();\n"],
    )


def _part(name: str) -> Html:
    return Html((VIEW / f"{name}.html").read_text(encoding="utf-8"))


def _left_out(records: Sequence[RunRecord], compared: Comparison) -> Iterator[str]:
    apart = len(records) - len(compared.runs)
    if apart:
        yield f"{apart} of the {len(records)} runs did not finish: they are drawn, and have no part in the differences."


def _conclusion(compared: Comparison) -> Html:
    """In a line, which opens to the whole of it."""
    name, words = compared.chief, conclusion(compared)
    if name is None or name not in compared.means or len(compared.arms) <= SIDE_BY_SIDE:
        return element("p", words)
    (best,) = (arm for arm in compared.arms if arm.id == compared.best[name])
    counts = Counter(one.word for one in compared.differences[name])
    told = ", ".join(f"{counts[word]} {said}" for word, said in WORDS.items() if counts[word])
    return folded(f"{name}: best is {best.label}. Of the others, {told}.", element("p", words))


# ---- what differs


def _config(compared: Comparison, labels: dict[str, str]) -> Html:
    found = {**{f"{group} (chosen)": options for group, options in compared.choices.items()}, **compared.config}
    if not found:
        return element("p", "Nothing: the configs are the same.")
    names = [labels.get(run, run) for run in compared.runs]
    if len(names) <= SIDE_BY_SIDE:
        cells = [[key, *(_told(value) for value in values)] for key, values in found.items()]
        return table(["key", *names], cells)
    return table(["key", "values, with their runs"], [[key, _by_value(v, names)] for key, v in found.items()])


def _by_value(values: Sequence[Any], names: Sequence[str]) -> Html:
    found: dict[str, list[str]] = {}
    for value, name in zip(values, names, strict=True):
        found.setdefault(_told(value), []).append(name)
    numbers = sorted({value for value in values if isinstance(value, int | float)})
    if len(found) > MAX_NAMED and len(numbers) >= len(found) - 1:
        return element("div", f"{len(found)} values, {numbers[0]:.6g} to {numbers[-1]:.6g}")
    parts = []
    for value, runs in sorted(found.items(), key=lambda pair: _rank(pair[0]))[:MAX_NAMED]:
        more = f" and {len(runs) - MAX_NAMED} more" if len(runs) > MAX_NAMED else ""
        told = element("span", f" {', '.join(runs[:MAX_NAMED])}{more}", class_="dim")
        parts.append(element("div", element("strong", value), told))
    if len(found) > MAX_NAMED:
        parts.append(element("div", f"and {len(found) - MAX_NAMED} more values, see the table of runs", class_="dim"))
    return joined(parts)


def _rank(text: str) -> tuple[int, float, str]:
    """Numbers in their order, then texts in theirs."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _told(value: Any) -> str:
    return "–" if value is None else str(value)


# ---- differences


def _statistics(compared: Comparison) -> Iterator[Html]:
    yield element(
        "p",
        "By paired bootstrap; p is corrected for all pairs. “Not distinguishable”: the data do not tell the two apart, "
        "which does not mean that they are equal.",
        class_="dim",
    )
    for one in tables(compared):
        if one.title.startswith("What differs"):
            continue
        rows = _nearest_first(compared, one.title, one.rows)
        shown: list[Html] = [table(one.headings, rows[:MAX_ROWS])]
        if len(one.rows) > MAX_ROWS:
            more = f"and {len(one.rows) - MAX_ROWS:,} more rows: instruct-lab compare --json"
            shown.append(element("p", more, class_="dim"))
        yield folded(one.title, *shown, is_open=one.title == compared.chief)


def _nearest_first(compared: Comparison, name: str, rows: list[list[str]]) -> list[list[str]]:
    """The rows of a metric's arms, the best first."""
    means = [one.value for one in compared.means.get(name, [])]
    if len(means) != len(rows):
        return rows
    best = next(mean for mean, arm in zip(means, compared.arms, strict=True) if arm.id == compared.best[name])
    order = sorted(range(len(rows)), key=lambda place: abs(means[place] - best))
    return [rows[place] for place in order]
