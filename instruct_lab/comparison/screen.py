"""Print a comparison on one screen: which configuration is best, the table of one metric, and a few more lines.

These lines are about the other metrics, the effects of settings, Pareto fronts, unfinished runs and examples. The
tables of all metrics are in the Markdown, JSON and HTML output; `--all-metrics` prints them in the terminal.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from instruct_lab.comparison.compare import Comparison
from instruct_lab.comparison.text import answer, describe_disagreements, format_gain, format_mean, importance_hint
from instruct_lab.pages.format import digits_of, format_metric, shorten
from instruct_lab.pages.text_columns import TextColumn, lay_out, list_within
from instruct_lab.records.costs import format_cost
from instruct_lab.records.labels import Label, label_runs
from instruct_lab.records.locate import TIME
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_settings import RunSettings

MAX_ROWS = 20
"""Maximum number of configurations in the table."""
MAX_NOTES = 3
"""Maximum number of notes below the table."""
LABEL_WIDTH, NAME_WIDTH = 16, 24
BEST, NO_BREAK = "best", "\N{NO-BREAK SPACE}"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table of one metric: a configuration, or a system that was not trained, such as the base model.

    Args:
        id: id of the configuration without its date and time; a dash for a system that was not trained.
        label: text in the row's first column: the settings of the configuration, or the name of the system.
        runs: number of runs of the configuration; 0 for a system that was not trained.
        value: the metric's value, by which rows are sorted.
        cells: the texts of four cells: value with its interval, difference from the best with its interval, p-value,
            and verdict.
    """

    id: str
    label: Label
    runs: int
    value: float
    cells: tuple[str, str, str, str]


def screen_lines(
    compared: Comparison, width: int, unfinished: Sequence[RunRecord] = (), finished: Sequence[RunRecord] = ()
) -> Iterator[Text]:
    """Yield the lines that show a comparison in the terminal.

    Args:
        compared: the comparison.
        width: width of the terminal, in characters.
        unfinished: records of runs without results, which are only listed.
        finished: records of the compared runs; they are needed to label the unfinished runs by the settings in which
            they differ from all other runs.
    """
    name = compared.primary
    for sentence in answer(compared, keep_together=_together):
        yield from (Text(line, style="bold" if sentence.startswith("Best") else "") for line in _wrap(sentence, width))
    name = name or next(iter(compared.metrics), None)
    if name is not None:
        yield Text()
        yield from _table(compared, name, width)
    yield Text()
    yield from (Text(line) for line in _other_metrics(compared, name, width))
    yield from (Text(line) for line in _effects(compared, width))
    yield from (Text(line) for line in _fronts(compared, width))
    yield from (Text(line) for line in _unfinished(unfinished, finished, width))
    for title, lines in describe_disagreements(compared):
        yield Text(shorten(title, width - 1), style="bold")
        size = min(NAME_WIDTH, max(len(text) for text, _ in lines))
        for text, content in lines:
            yield Text(f"  {shorten(text, size - 1):<{size}}  {shorten(content, width - size - 5)}")


def _together(text: str) -> str:
    """Replace spaces by no-break spaces, so that `_wrap` does not break a label or an interval over two lines."""
    return text.replace(" ", NO_BREAK)


def _wrap(text: str, width: int) -> list[str]:
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(NO_BREAK, " ") for line in lines]


# ---- the table


def _table(compared: Comparison, name: str, width: int) -> Iterator[Text]:
    rows = _rows(compared, name)
    shown = rows[:MAX_ROWS]
    values, differences, probabilities, verdicts = zip(*(row.cells for row in shown), strict=True)
    columns = [
        TextColumn(
            "configuration",
            [str(row.label) for row in shown],
            fit=lambda row, size: shown[row].label.fit(size),
            min_width=LABEL_WIDTH,
            styles=["green" if BEST in row.cells[1] else "dim" if not row.runs else "" for row in shown],
        ),
        TextColumn("value", values, is_right=True),
    ]
    if any(row.runs > 1 for row in rows):
        columns.insert(1, TextColumn("runs", [str(row.runs or "-") for row in shown], rank=2, is_right=True))
    if name in compared.means:
        columns += [
            TextColumn("difference", differences, rank=1, is_right=True),
            TextColumn("p", probabilities, rank=2),
            TextColumn("verdict", verdicts, rank=3),
        ]
    columns.append(TextColumn("run", [row.id for row in shown], rank=4))
    count = next((value.count for value in compared.metrics[name] if value is not None), 0)
    how = "" if name in compared.means else f"; not paired: {compared.unpaired[name]}"
    yield Text(shorten(f"{name} on {count} examples{how}", width - 1), style="bold")
    yield from lay_out(columns, width)[0]
    if len(rows) > len(shown):
        yield Text(f"and {len(rows) - len(shown)} more configurations (--all-metrics)")
    labels = {compared.runs[run]: arm.label for arm in compared.arms for run in arm.runs}
    notes = compared.notes[name]
    for note in notes[:MAX_NOTES]:
        yield from map(Text, _wrap(f"note: {_with_labels(note, labels)}", width))
    if len(notes) > MAX_NOTES:
        yield Text(f"and {len(notes) - MAX_NOTES} more notes (--all-metrics)")


def _with_labels(note: str, labels: Mapping[str, str]) -> str:
    """Replace the ids of runs at the beginning of a note by the labels of their configurations.

    A note that is only about some runs has the form `ID, ID and N more: TEXT`. Other notes are returned unchanged.

    Args:
        note: the note.
        labels: label of each run's configuration, keyed by the run's id.
    """
    head, colon, text = note.partition(": ")
    names, more, count = head.partition(" and ")
    ids = names.split(", ")
    if not colon or not all(name in labels for name in ids):
        return note
    return f"{', '.join(dict.fromkeys(_together(labels[name]) for name in ids))}{more}{count}: {text}"


def _rows(compared: Comparison, name: str) -> list[Row]:
    """Return the rows of a metric's table: the configurations, the base model and the data set's baselines.

    The rows are sorted from the best to the worst. If the metric is not paired (the runs were not measured in the same
    way and on the same examples), they are sorted from the largest value to the smallest, and each run has a row.
    """
    rows = list(_paired_rows(compared, name)) if name in compared.means else list(_unpaired_rows(compared, name))
    lower_is_better = False
    if name in compared.means:
        means = [one.value for one in compared.means[name]]
        best = means[[arm.id for arm in compared.arms].index(compared.best[name])]
        lower_is_better = best < max(means)
    for one in compared.baselines:
        if name in one.metrics:
            gain = one.differences.get(name)
            value = one.metrics[name]
            difference = format_gain(gain, digits_of(value))
            rows.append(Row("-", Label((one.label,)), 0, value.value, (format_metric(value), difference, "-", "-")))
    sign = 1 if lower_is_better else -1
    return sorted(rows, key=lambda row: (math.isnan(row.value), sign * row.value))


def _paired_rows(compared: Comparison, name: str) -> Iterator[Row]:
    differences, digits = {one.arm: one for one in compared.differences[name]}, digits_of(*compared.metrics[name])
    for arm, mean in zip(compared.arms, compared.means[name], strict=True):
        one = differences.get(arm.id)
        cells = (BEST, "-", "-")
        if one is not None:
            difference = format_gain(one, digits)
            cells = (difference, f"{one.probability:.2g}", one.verdict.partition(" (")[0])
        yield Row(
            TIME.sub("", arm.id),
            Label(tuple(arm.label.split(" "))),
            len(arm.runs),
            mean.value,
            (format_mean(mean, digits), *cells),
        )


def _unpaired_rows(compared: Comparison, name: str) -> Iterator[Row]:
    labels = {run: arm.label for arm in compared.arms for run in arm.runs}
    for index, value in enumerate(compared.metrics[name]):
        number = float("nan") if value is None else value.value
        yield Row(
            TIME.sub("", compared.runs[index]),
            Label(tuple(labels[index].split(" "))),
            1,
            number,
            (format_metric(value), "-", "-", "-"),
        )


# ---- a line for everything else


def _other_metrics(compared: Comparison, name: str | None, width: int) -> Iterator[str]:
    """Yield a line for each metric that contradicts the metric `name`, and a line that lists the remaining metrics.

    A metric contradicts `name` if the configuration that is best by `name` is significantly worse by this metric than
    another configuration.
    """
    labels = {arm.id: arm.label for arm in compared.arms}
    others, chosen = [], compared.best.get(name or "")
    for other, best in compared.best.items():
        if other == name:
            continue
        against = next((one for one in compared.differences[other] if one.arm == chosen), None)
        if against is not None and against.is_significant:
            lost = format_gain(against, digits_of(*compared.metrics[other]))
            yield shorten(f"But by {other}, {labels[best]} is better: the difference is {lost}", width - 1)
        else:
            others.append(other)
    others += [other for other in compared.unpaired if other != name]
    if others:
        yield list_within("Also measured", others, width, hint="--metric NAME, --all-metrics")


def _effects(compared: Comparison, width: int) -> Iterator[str]:
    for effect in compared.effects:
        levels = sorted(effect.levels, key=lambda level: abs(level.difference.value if level.difference else 0))
        texts = [
            f"{level.value} {level.mean.value:.2f}{'' if (level.probability or 0) < 0.05 else ' (alike)'}"
            for level in levels
        ]
        share = "" if effect.importance is None else f", importance {effect.importance:.0%}"
        balance = "" if effect.is_balanced else ", not balanced"
        yield list_within(f"Effect of {effect.key}{share}{balance}", texts, width)
    if hint := importance_hint(compared):
        yield hint


def _fronts(compared: Comparison, width: int) -> Iterator[str]:
    arms = {arm.id: index for index, arm in enumerate(compared.arms)}
    for front in compared.fronts:
        names = [
            f"{compared.arms[arms[name]].label} ({format_cost(front.cost, front.costs[arms[name]], with_unit=True)})"
            for name in front.arms
        ]
        yield list_within(f"Pareto front against {front.cost}", names, width)


def _unfinished(records: Sequence[RunRecord], finished: Sequence[RunRecord], width: int) -> Iterator[str]:
    if records:
        settings = [RunSettings.read(record) for record in (*finished, *records)]
        labels = [str(label) for label in label_runs(settings)][len(finished) :]
        named = [f"{label or record.id} ({record.status_text})" for label, record in zip(labels, records, strict=True)]
        yield list_within("Not compared", named, width)
