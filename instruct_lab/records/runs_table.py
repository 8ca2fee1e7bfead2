"""Render the table of `instruct-lab runs`: one line for each run, in the width of the terminal."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text

from instruct_lab.errors import InstructLabError
from instruct_lab.pages.format import format_age, format_interval, format_metric
from instruct_lab.pages.text_columns import TextColumn, lay_out, list_within
from instruct_lab.records.costs import COSTS, format_cost
from instruct_lab.records.labels import Label, label_runs, label_typed
from instruct_lab.records.locate import DAMAGED, ListedRun, short_ids
from instruct_lab.records.query import FoundRun
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_settings import RunSettings
from instruct_lab.records.schema import AFTER, BEFORE, DIFFERENCE

STYLES = {"finished": "green", "failed": "red", "pruned": "yellow", "running": "cyan", "interrupted": "magenta"}
LABEL_WIDTH = 24
"""Number of characters that are reserved for the label before less important columns get any."""
CHANGE = "change"
OWN_COLUMNS = ("id", "status", "started")


@dataclasses.dataclass(frozen=True)
class View:
    """The columns, order, groups and length of the table.

    A key is a name of a run's value, such as `tuning`, `optimizer.lr` or `test/chrf`.

    Args:
        columns: keys that get a column each, the most important first. If it is empty and no other column has a metric,
            the metric that most runs have gets a column.
        sorted_by: the key that the runs are sorted by; `None` if they are sorted by their start.
        group: key by whose values the runs are grouped under headings; `None` for no groups.
        limit: maximum number of runs to show; `None` for all.
        is_reversed: whether the order is reversed: the newest run first or, with `sorted_by`, the largest value first.
    """

    columns: tuple[str, ...] = ()
    sorted_by: str | None = None
    group: str | None = None
    limit: int | None = None
    is_reversed: bool = False


def label_found(runs: Sequence[ListedRun], hidden: Sequence[str] = ()) -> list[Label]:
    """Return a label for each run, which names what differs from the other runs, such as `r=8`.

    The label of a single run names the options and values that the user typed.

    Args:
        runs: the runs.
        hidden: groups and keys that the labels leave out, because a column shows them.
    """
    settings = [_without(_settings(run), hidden) for run in runs]
    return [label_typed(settings[0])] if len(settings) == 1 else label_runs(settings)


def _settings(run: ListedRun) -> RunSettings:
    if run.status == DAMAGED:
        return RunSettings()
    try:
        return RunSettings.read(RunRecord.open(run.path))
    except InstructLabError:
        return RunSettings()


def _without(settings: RunSettings, hidden: Sequence[str]) -> RunSettings:
    choices, values = (
        {key: value for key, value in of.items() if key not in hidden} for of in (settings.choices, settings.values)
    )
    return dataclasses.replace(settings, choices=choices, values=values)


def primary_metric(runs: Sequence[ListedRun]) -> str | None:
    """Return the metric that most runs have; `None` if no run has a metric.

    If several metrics are equally frequent, the one that was met first in `runs` is returned. For a run of a sweep,
    only one metric is counted: the first of the sweep's metrics that the run has.
    """
    counts: Counter[str] = Counter()
    for run in runs:
        of_sweep = [name for name in (run.sweep.metrics if run.sweep else ()) if name in run.metrics]
        counts.update(of_sweep[:1] or run.metrics.keys())
    return max(counts, key=lambda name: counts[name], default=None)


def runs_lines(
    found: Sequence[FoundRun], known: Sequence[ListedRun], width: int, view: View, now: datetime | None = None
) -> Iterator[Text]:
    """Yield the lines of the table, then notes on what it does not show.

    Args:
        found: the runs that a query found, in the order to show.
        known: all runs; the table shortens ids so that they are still unique among all runs.
        width: number of columns of the terminal.
        view: the columns, order, groups and length of the table.
        now: the time from which the age of runs is counted; `None`: the current time.
    """
    shown = limited(found, view)
    if not shown:
        yield Text("No run meets these conditions" if known else "There are no runs yet: instruct-lab train")
        return
    runs = [one.run for one in shown]
    asked = list(_asked_keys(shown, view))
    primary = next((key for key in asked if any(key in run.metrics for run in runs)), None)
    if primary is None and not view.columns and (primary := primary_metric(runs)) is not None:
        asked.append(primary)
    labels = label_found(runs, [*asked, *([view.group] if view.group else [])])
    ids = short_ids(known)
    columns = [
        TextColumn("id", [ids.get(run.id, run.id) for run in runs]),
        TextColumn("status", [run.status for run in runs], styles=[STYLES.get(run.status, "red") for run in runs]),
        TextColumn("age", [_age(run, now) for run in runs], rank=5 + len(asked), is_right=True),
        *_label_column(labels),
    ]
    by_rank = sorted(asked, key=lambda key: key != view.sorted_by)  # the sorted column is always shown
    for key in asked:
        columns.append(_value_column(key, shown, by_rank.index(key)))
        if key == primary:
            columns += _change_column(primary, runs, rank=3 + len(asked))
    lines, left_out = lay_out(columns, width)
    yield lines[0]
    yield from _grouped(lines[1:], shown, view.group)
    yield from _notes(shown, len(found), asked, left_out, primary, width, view)


def limited(found: Sequence[FoundRun], view: View) -> Sequence[FoundRun]:
    """Return at most `view.limit` runs: the first ones if the runs are sorted by a key, otherwise the newest ones."""
    if view.limit is None or len(found) <= view.limit:
        return found
    is_oldest_first = view.sorted_by is None and not view.is_reversed
    return found[len(found) - view.limit :] if is_oldest_first else found[: view.limit]


def _asked_keys(shown: Sequence[FoundRun], view: View) -> Iterator[str]:
    """Yield the keys (names of runs' values) that get a column.

    These are the keys in `view.columns` and the key to sort by. A key by which the user filtered the runs gets a column
    only if its values differ between the shown runs.
    """
    wanted = [*view.columns, *([view.sorted_by] if view.sorted_by else [])]
    for key in dict.fromkeys([*wanted, *shown[0].values]):
        is_constant = len({format_value(key, one) for one in shown}) == 1
        if key not in (*OWN_COLUMNS, view.group) and (key in wanted or not is_constant):
            yield key


def _label_column(labels: Sequence[Label]) -> list[TextColumn]:
    texts = [str(label) for label in labels]
    if not any(texts):
        return []
    return [TextColumn("what differs", texts, fit=lambda row, size: labels[row].fit(size), min_width=LABEL_WIDTH)]


def _value_column(key: str, shown: Sequence[FoundRun], rank: int) -> TextColumn:
    """Build the column with the runs' values of a key.

    Args:
        key: the key.
        shown: the runs.
        rank: importance of the column: if the table is too wide, columns of larger rank are dropped first; a column of
            rank 0 is always shown.
    """
    cells = [format_value(key, one) for one in shown]
    values = [one.values.get(key, one.run.metrics.get(key)) for one in shown]
    is_number = any(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return TextColumn(key, cells, rank=rank, is_right=is_number)


def format_value(key: str, one: FoundRun) -> str:
    """Format a run's value for a table cell; a metric is shown with its interval, a size in bytes with a unit."""
    measured = one.run.summary and (one.run.summary.value(key, AFTER) or one.run.summary.value(key, BEFORE))
    if key in one.run.metrics and measured:
        return format_metric(measured)
    value = one.values.get(key)
    if value is None:
        return "-"
    if key in COSTS:
        return format_cost(key, value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _change_column(primary: str, runs: Sequence[ListedRun], rank: int) -> list[TextColumn]:
    """Return a list with one column: for each run, the difference between tuned and base model in a metric.

    The list is empty if no run has such a difference.

    Args:
        primary: the metric.
        runs: the runs.
        rank: importance of the column: if the table is too wide, columns of larger rank are dropped first.
    """
    changes = [run.summary and run.summary.value(primary, DIFFERENCE) for run in runs]
    cells = [
        format_interval(one.value, one.low, one.high, signed=True).partition(" ")[0] if one else "-" for one in changes
    ]
    return [TextColumn(CHANGE, cells, rank=rank, is_right=True)] if any(changes) else []


def _age(run: ListedRun, now: datetime | None) -> str:
    try:
        started = datetime.fromisoformat(run.started or "")
    except ValueError:
        return "-"
    started = started if started.tzinfo else started.replace(tzinfo=UTC)
    return format_age(((now or datetime.now(UTC)) - started).total_seconds())


def _grouped(lines: Sequence[Text], shown: Sequence[FoundRun], group: str | None) -> Iterator[Text]:
    """Yield the runs' lines of the table, grouped under headings unless `group` is `None`.

    Args:
        lines: the line of each run.
        shown: the runs.
        group: key by whose values the runs are grouped; the heading shows the value.
    """
    if group is None:
        yield from lines
        return
    rows: dict[str, list[int]] = {}
    for index, one in enumerate(shown):
        rows.setdefault(format_value(group, one), []).append(index)
    for value, indices in rows.items():
        yield Text(f"{group}={value}: {len(indices)} run{'s' * (len(indices) > 1)}", style="bold")
        yield from (lines[index] for index in indices)


def _notes(
    shown: Sequence[FoundRun],
    num_found: int,
    asked: Sequence[str],
    left_out: Sequence[str],
    primary: str | None,
    width: int,
    view: View,
) -> Iterator[Text]:
    """Yield the notes below the table, one line each: the number of runs, and what the table does not show.

    Args:
        shown: the runs in the table.
        num_found: number of runs that the query found.
        asked: keys (names of runs' values) that have a column, or would have one if the terminal were wider.
        left_out: headings of the columns for which there was no space.
        primary: the metric whose change the table shows; `None` without a metric.
        width: number of columns of the terminal.
        view: the columns, order, groups and length of the table.
    """
    order = f"sorted by {view.sorted_by}" if view.sorted_by else f"{'newest' if view.is_reversed else 'oldest'} first"
    count = f"{len(shown)} of {num_found}" if len(shown) < num_found else str(num_found)
    texts = [f"{count} run{'s' * (num_found > 1)}, {order}"]
    has_change = any(one.run.summary and one.run.summary.value(primary or "", DIFFERENCE) for one in shown)
    if has_change and CHANGE not in left_out:
        texts[0] += f"; change: {primary} against the base model"
    if left_out:
        texts.append(list_within("no space for", left_out, width))
    notes: dict[str, list[str]] = {}
    for one in shown:
        if one.run.note:
            notes.setdefault(one.run.status_text, []).append(one.run.id)
    texts += [list_within(note, ids, width) for note, ids in notes.items()]
    measured = dict.fromkeys(name for one in shown for name in one.run.metrics)
    others = [name for name in measured if name not in asked]
    if others:
        texts.append(list_within("also measured", others, width, hint="--columns NAME,NAME"))
    yield from (Text(text, style="dim") for text in texts)
