"""Format a comparison as tables and sentences, for the terminal and as Markdown."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instruct_lab.comparison.compare import Comparison, Difference, verdict
from instruct_lab.comparison.effects import Effect, can_compute_importance
from instruct_lab.comparison.fronts import Front
from instruct_lab.comparison.scores import Estimate
from instruct_lab.metrics import MetricValue
from instruct_lab.optional_packages import install_command
from instruct_lab.pages.format import (
    digits_of,
    escape_markdown,
    format_interval,
    format_metric,
    markdown_table,
    shorten,
)
from instruct_lab.records.costs import format_cost

MAX_COLUMNS = 6
"""Maximum number of runs for which the table of settings has a column for each run.

If there are more, each value is listed with the number of runs that have it.
"""
MAX_NAMED = 4
"""Maximum number of configurations that a sentence names."""
MAX_TEXT = 300
"""Maximum number of characters shown of a prompt, a reference or an answer."""


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table whose cells are texts, before it is printed in the terminal or formatted as Markdown or HTML.

    Args:
        title: text above the table.
        headings: headings of the columns.
        rows: the rows for the compared runs or settings, each a list of cells.
        baseline_rows: the rows below these, for the model before training and the data set's baselines.
        notes: notes on the values, shown below the table.
    """

    title: str
    headings: list[str]
    rows: list[list[str]]
    baseline_rows: list[list[str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def tables(compared: Comparison, metrics: Sequence[str] | None = None) -> Iterator[TextTable]:
    """Yield the table of settings that differ between the runs, then the tables of results.

    Args:
        compared: the comparison.
        metrics: full names (`split/metric`) of the metrics to show; `None`: all metrics.
    """
    if compared.config:
        yield _config_table(compared)
    yield from result_tables(compared, metrics)


def result_tables(compared: Comparison, metrics: Sequence[str] | None = None) -> Iterator[TextTable]:
    """Yield the tables of results: one for each metric, for each setting's effect, and for each Pareto front.

    The table of a metric has the difference of each configuration from the best one.

    Args:
        compared: the comparison.
        metrics: full names (`split/metric`) of the metrics to show; `None`: all metrics.
    """
    for name in compared.metrics:
        if metrics is None or name in metrics:
            yield _metric_table(compared, name)
    yield from (_effect_table(compared, effect) for effect in compared.effects)
    yield from (_front_table(compared, front) for front in compared.fronts)


def _effect_table(compared: Comparison, effect: Effect) -> TextTable:
    rows = []
    for level in effect.levels:
        has_noise = compared.noise[compared.primary or ""] is not None
        difference = _format_difference(level.difference, level.probability, has_noise)
        rows.append([level.value, str(level.runs), format_mean(level.mean), difference])
    share = "" if effect.importance is None else f"; importance {effect.importance:.0%}"
    balance = "" if effect.is_balanced else "; not balanced: the other choices differ between its values too"
    title = f"Effect of {effect.key} on {compared.primary}{share}{balance}"
    return TextTable(title, [effect.key, "runs", "mean", "difference from the best"], rows)


def _front_table(compared: Comparison, front: Front) -> TextTable:
    means = compared.means[compared.primary or ""]
    rows = {
        arm.id: [arm.label, format_cost(front.cost, cost), format_mean(mean)]
        for arm, cost, mean in zip(compared.arms, front.costs, means, strict=True)
    }
    title = f"Pareto front: {compared.primary} against {front.cost}"
    headings = ["configuration", front.cost, str(compared.primary)]
    return TextTable(title, headings, [rows[name] for name in front.arms])


def _config_table(compared: Comparison) -> TextTable:
    """Build the table of settings that differ between the runs.

    If the runs chose different options of a config group, the table shows only those keys below the group that all of
    these options have.
    """
    below = tuple(f"{group}." for group in compared.choices)
    keys = {
        key: values
        for key, values in compared.config.items()
        if not key.startswith(below) or all(value is not None for value in values)
    }
    keys = {key: values for key, values in keys.items() if not key.endswith("._target_") or not key.startswith(below)}
    differing = {**compared.choices, **{key: values for key, values in keys.items() if key not in compared.choices}}
    left_out = len(compared.config) - len([key for key in differing if key in compared.config])
    title = "What differs"
    if left_out:
        title += f" (without {left_out} key{'s' * (left_out > 1)} that only some options have: --json)"
    if len(compared.runs) <= MAX_COLUMNS:
        rows = [[key, *map(_format, values)] for key, values in differing.items()]
        return TextTable(title, ["key", *compared.runs], rows)
    rows = []
    for key, values in differing.items():
        counts = Counter(map(_format, values))
        rows.append([key, ", ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in counts.items())])
    return TextTable(title, ["key", "values"], rows)


def _metric_table(compared: Comparison, name: str) -> TextTable:
    means = compared.means.get(name)
    if means is None:
        values = map(format_metric, compared.metrics[name])
        rows = [[run, value] for run, value in zip(compared.runs, values, strict=True)]
        baselines = [[one.label, format_metric(one.metrics[name])] for one in compared.baselines if name in one.metrics]
        title = f"{name} (not paired: {compared.unpaired[name]})"
        return TextTable(title, ["run", "value"], rows, baselines, compared.notes[name])
    differences = {one.arm: one for one in compared.differences[name]}
    digits = digits_of(*compared.metrics[name])
    rows = []
    for arm, mean in zip(compared.arms, means, strict=True):
        one = differences.get(arm.id)
        difference = "best" if one is None else _format_difference(one, one.probability, one.has_noise, digits)
        rows.append([arm.label, str(len(arm.runs)), format_mean(mean, digits), difference])
    headings = ["configuration", "runs", "mean", "difference from the best, paired"]
    return TextTable(name, headings, rows, _baseline_rows(compared, name), compared.notes[name])


def _baseline_rows(compared: Comparison, name: str) -> list[list[str]]:
    rows = []
    for one in compared.baselines:
        if name in one.metrics:
            gain = one.differences.get(name)
            value = one.metrics[name]
            rows.append([one.label, "-", format_metric(value), format_gain(gain, digits_of(value))])
    return rows


def answer(compared: Comparison, keep_together: Callable[[str], str] = str) -> list[str]:
    """Write in a few sentences which configuration is best, which may be as good, and which are worse.

    The sentences are about the comparison's primary metric.

    Args:
        compared: the comparison.
        keep_together: function that is applied to each configuration's name and to each value with its interval, for
            example to replace spaces by no-break spaces, so that these texts are not broken over two lines.
    """
    name = compared.primary
    if name is None or name not in compared.means:
        reasons = "; ".join(sorted(set(compared.unpaired.values())))
        return [f"No answer: the runs cannot be compared example by example ({reasons})."]
    arms, digits = {arm.id: arm for arm in compared.arms}, digits_of(*compared.metrics[name])
    means = dict(zip(arms, compared.means[name], strict=True))
    best = arms[compared.best[name]]
    runs = f", mean of {len(best.runs)} runs" if len(best.runs) > 1 else ""
    value = keep_together(format_mean(means[best.id], digits))
    gain = next((one.differences[name] for one in compared.baselines if name in one.differences), None)
    if gain is not None:  # the base model was measured in the best run
        change = format_interval(-gain.value, -gain.high, -gain.low, digits=digits, signed=True)
        runs += f"; {keep_together(change)} against the base model"
    sentences = [f"Best by {name}: {keep_together(best.label)}, {value}{runs}."]
    has_noise = compared.noise[name] is not None
    worse = "Worse" if has_noise else "Worse on these examples (one run each: training noise unknown)"
    for title, wanted in (("Not distinguishable from it", False), (worse, True)):
        chosen = [one for one in compared.differences[name] if one.is_significant == wanted]
        if chosen:
            nearest = sorted(chosen, key=lambda one: abs(one.value))
            named = ", ".join(keep_together(arms[one.arm].label) for one in nearest[:MAX_NAMED])
            left_out = len(nearest) - MAX_NAMED
            sentences.append(f"{title}: {named}{f' and {left_out} more' if left_out > 0 else ''}.")
    if not has_noise:
        sentences.append("One run each: the intervals leave out the randomness of training (sweep.seeds=3 adds it).")
    return sentences


def show(compared: Comparison, console: Console) -> None:
    """Print all tables of the comparison, the examples with the largest differences, and the conclusion."""
    for one in tables(compared):
        table = Table(*one.headings, title=one.title, title_justify="left")
        for row in (*one.rows, *one.baseline_rows):
            table.add_row(*map(Text, row))
        console.print(table)
        for note in one.notes:
            console.print(Text(f"note: {note}"), soft_wrap=True)
    for title, lines in describe_disagreements(compared):
        console.print(Text(title, style="bold"))
        width = max(len(name) for name, _ in lines)
        for name, text in lines:
            console.print(Text(f"  {name:<{width}}  {text}"))
    if hint := importance_hint(compared):
        console.print(Text(hint), soft_wrap=True)
    console.print(Text(" ".join(answer(compared))), soft_wrap=True)


def importance_hint(compared: Comparison) -> str:
    """Return a sentence on how to install scikit-learn, which is needed to compute the importance of settings.

    The result is an empty text if scikit-learn is installed, or if the comparison has no effects of settings.
    """
    if not compared.effects or can_compute_importance():
        return ""
    return f"The importance of each choice can be computed with scikit-learn: {install_command('sklearn')}"


def markdown(compared: Comparison, metrics: Sequence[str] | None = None) -> str:
    """Format the comparison as Markdown.

    Args:
        compared: the comparison.
        metrics: full names (`split/metric`) of the metrics to show; `None`: all metrics.
    """
    parts = []
    for one in tables(compared, metrics):
        parts.append(f"### {one.title}\n\n{markdown_table(one.headings, [*one.rows, *one.baseline_rows])}\n")
        parts += [f"Note: {escape_markdown(note)}\n" for note in one.notes]
    for title, lines in describe_disagreements(compared):
        parts.append(f"### {title}\n\n" + "".join(f"- {name}: {escape_markdown(text)}\n" for name, text in lines))
    return "\n".join([*parts, escape_markdown(" ".join(answer(compared)))])


def describe_disagreements(compared: Comparison) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Describe the examples on which the two best configurations differ most.

    Yields:
        For each example, a title and a list of (name, text): the prompt, the reference answer and the two
        configurations' answers.
    """
    labels = {compared.runs[run]: arm.label for arm in compared.arms for run in arm.runs}
    for one in compared.disagreements:
        lines = [("prompt", one.prompt), ("reference", one.references[0] if one.references else "-")]
        for run, prediction, score in zip(one.runs, one.predictions, one.scores, strict=True):
            lines.append((f"{labels[run]} ({score:.1f})", prediction))
        title = f"Where the two best differ most in {compared.primary}: {one.split} example {one.id}"
        yield title, [(name, shorten(text, MAX_TEXT)) for name, text in lines]


def _format(value: Any) -> str:
    return "-" if value is None else str(value)


def format_mean(one: Estimate, digits: int = 2) -> str:
    """Format a mean with its interval."""
    return format_interval(one.value, one.low, one.high, digits=digits)


def format_gain(one: Estimate | Difference | MetricValue | None, digits: int) -> str:
    """Format a difference with its sign and its interval; return a dash for `None`."""
    return "-" if one is None else format_interval(one.value, one.low, one.high, digits=digits, signed=True)


def _format_difference(
    difference: Estimate | Difference | None, probability: float | None, has_noise: bool, digits: int = 2
) -> str:
    """Format a difference from the best, with its interval, its p-value and whether it is significant.

    The best is a configuration or, in the table of a setting's effect, a value of the setting.

    Returns:
        The text; `best` if `difference` or `probability` is `None`, as it is for the best itself.
    """
    if difference is None or probability is None:
        return "best"
    interval = format_gain(difference, digits)
    return f"{interval}, p = {probability:.2g}: {verdict(probability, has_noise=has_noise)}"
