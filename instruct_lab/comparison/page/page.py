"""Render a comparison as one self-contained HTML page: table, curves, parallel coordinates, scatter plot, predictions.

The charts are drawn by Apache ECharts 6.1.0. It is stored unchanged in the folder `echarts` beside this file, with its
licence, and embedded in the page, so that the page needs no other package and no network. Alternatives were measured
(results in `tests/benchmarks/README.md`): plotly takes more than two seconds to open and needs WebGL for parallel
coordinates; Bokeh and Vega-Lite have no parallel coordinates, and their Python packages are larger than ECharts.
To update ECharts, replace the three files in `echarts` by those in the npm package `echarts`, and the hash in the
page's test.

The page's own scripts are in the folder `view`, one file for each part of the page. To prevent that data injects
code, they create HTML elements from plain text only, ECharts draws on a canvas, and the content security policy allows
only the scripts whose hashes it lists (`pages.render`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from instruct_lab.comparison.compare import Comparison
from instruct_lab.comparison.page.data import comparison_data
from instruct_lab.comparison.text import answer, result_tables
from instruct_lab.pages.render import render_page, render_table, write_page
from instruct_lab.records.record import RunRecord

TEMPLATE = "comparison/page/templates/comparison.html"
HERE = Path(__file__).parent
ECHARTS = HERE / "echarts" / "echarts.min.js"
VIEW = HERE / "view"
SCRIPTS = ("state", "forest", "table", "charts", "curves", "parallel", "scatter", "words", "predictions", "main")
MAX_COLUMNS = 6
"""Maximum number of runs for which the table of settings has a column for each run.

If there are more, each value is listed with the runs that have it.
"""
MAX_NAMED = 8
MAX_ROWS = 200


def write_comparison(path: Path, records: Sequence[RunRecord], compared: Comparison) -> Path:
    """Write the HTML page of a comparison and return its path.

    Args:
        path: path of the HTML file to write.
        records: the records of all runs on the page, including unfinished runs.
        compared: the comparison of the finished runs.

    Raises:
        InstructLabError: the file cannot be written.
    """
    write_page(path, comparison_page(records, compared))
    return path


def comparison_page(records: Sequence[RunRecord], compared: Comparison) -> str:
    """Render the page of a comparison as HTML; all data is escaped, and the page requests nothing from the network.

    Args:
        records: the records of all runs on the page, including unfinished runs.
        compared: the comparison of the finished runs.
    """
    data, notes = comparison_data(records, compared)
    labels = dict(zip((record.id for record in records), (run["label"] for run in data["runs"]), strict=True))
    names = list(dict.fromkeys(record.name for record in records))
    values = {**{f"{group} (chosen)": options for group, options in compared.choices.items()}, **compared.config}
    runs = [labels.get(run, run) for run in compared.runs]
    has_columns = len(runs) <= MAX_COLUMNS
    return render_page(
        TEMPLATE,
        f"{len(records)} runs of {', '.join(names[:3])}{' …' if len(names) > 3 else ''}",
        styles=page_styles(),
        scripts=page_scripts(SCRIPTS),
        answer=answer(compared),
        notes=[*_unfinished(records, compared), *notes],
        config_table=_config_table(values, runs) if has_columns and values else "",
        settings=[] if has_columns else [_values_with_runs(key, found, runs) for key, found in values.items()],
        results=list(_results(compared)),
        primary=compared.primary,
        data=data,
    )


def page_styles() -> list[str]:
    """Read the style sheets that the page of a comparison and the page of one run share."""
    return [(VIEW / "style.css").read_text(encoding="utf-8")]


def page_scripts(names: Sequence[str]) -> list[str]:
    """Return two scripts for a page: ECharts, and files of the folder `view` joined into one script.

    The joined script is wrapped in a function, so that it defines no global names.

    Args:
        names: names of the files without `.js`, in the order in which they run.
    """
    own = "".join((VIEW / f"{name}.js").read_text(encoding="utf-8") for name in names)
    return [ECHARTS.read_text(encoding="utf-8"), f"(() => {{\n{own}}})();\n"]


def _unfinished(records: Sequence[RunRecord], compared: Comparison) -> Iterator[str]:
    count = len(records) - len(compared.runs)
    if count:
        yield f"{count} of the {len(records)} runs did not finish: they are drawn, but have no part in the differences."


# ---- what differs


def _config_table(values: dict[str, list[Any]], runs: Sequence[str]) -> Markup:
    return render_table(["key", *runs], [[key, *_format_row(found)] for key, found in values.items()])


def _format_row(values: Sequence[Any]) -> list[str]:
    """Format each run's value of one config key.

    Floats are rounded to six significant digits, unless this would make different values look equal.
    """
    whole = [_format_value(value) for value in values]
    short = [f"{value:.6g}" if isinstance(value, float) else text for value, text in zip(values, whole, strict=True)]
    return short if len(set(short)) == len(set(whole)) else whole


def _values_with_runs(key: str, values: Sequence[Any], runs: Sequence[str]) -> dict[str, Any]:
    """Build the row of one config key in the list of settings.

    The row lists each value with the runs that have it, but at most 8 values (`MAX_NAMED`). If there are more than 8
    values and they are numbers, the row shows only how many values there are, the smallest and the largest.
    """
    found: dict[str, list[str]] = {}
    for value, run in zip(values, runs, strict=True):
        found.setdefault(_format_value(value), []).append(run)
    numbers = sorted({value for value in values if isinstance(value, int | float)})
    if len(found) > MAX_NAMED and len(numbers) >= len(found) - 1:
        text = f"{len(found)} values, {numbers[0]:.6g} to {numbers[-1]:.6g}"
        return {"key": key, "range": text, "groups": [], "num_values_left": 0}
    ordered = sorted(found.items(), key=lambda pair: _sort_key(pair[0]))[:MAX_NAMED]
    named = [(value, _list_runs(having)) for value, having in ordered]
    return {"key": key, "range": "", "groups": named, "num_values_left": len(found) - len(named)}


def _list_runs(runs: Sequence[str]) -> str:
    more = f" and {len(runs) - MAX_NAMED} more" if len(runs) > MAX_NAMED else ""
    return f"{', '.join(runs[:MAX_NAMED])}{more}"


def _sort_key(text: str) -> tuple[int, float, str]:
    """Return a sort key: texts that are numbers come first, in numerical order, and then all other texts."""
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _format_value(value: Any) -> str:
    return "–" if value is None else str(value)


# ---- differences


def _results(compared: Comparison) -> Iterator[tuple[str, Markup, int, list[str]]]:
    """Yield, for each table of results, a tuple: title, HTML table, number of omitted rows, and notes."""
    for one in result_tables(compared):
        rows = _best_first(compared, one.title, one.rows)
        table = render_table(one.headings, [*rows[:MAX_ROWS], *one.baseline_rows])
        yield one.title, table, len(rows[MAX_ROWS:]), one.notes


def _best_first(compared: Comparison, name: str, rows: list[list[str]]) -> list[list[str]]:
    """Sort the rows of a metric's table from the best mean to the worst; return the rows of other tables unchanged.

    Args:
        compared: the comparison.
        name: title of the table, which is `split/metric` for the table of a paired metric.
        rows: the rows of the table.
    """
    means = [one.value for one in compared.means.get(name, [])]
    if len(means) != len(rows):
        return rows
    best = next(mean for mean, arm in zip(means, compared.arms, strict=True) if arm.id == compared.best[name])
    order = sorted(range(len(rows)), key=lambda index: abs(means[index] - best))
    return [rows[index] for index in order]
