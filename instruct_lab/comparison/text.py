"""A comparison in words and tables: for the terminal, as Markdown, and its conclusion in a few sentences."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instruct_lab.comparison.arms import Arm
from instruct_lab.comparison.compare import Comparison, Difference, verdict
from instruct_lab.comparison.effects import can_tell_importance
from instruct_lab.comparison.scores import Estimate
from instruct_lab.pages.format import escape_markdown, format_interval, format_metric, markdown_table, shorten
from instruct_lab.records.costs import format_cost

MAX_COLUMNS = 6
"""Runs that stand beside each other in columns; of more, the values of a key are counted."""
MAX_NAMED = 6
"""Arms that a sentence names."""
MAX_TEXT = 300
"""Characters of a prediction that are shown."""


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table of texts, however it is shown."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def tables(compared: Comparison, metrics: Sequence[str] | None = None) -> Iterator[TextTable]:
    """What differs in the configs, then the results."""
    if compared.config:
        yield _config(compared)
    yield from result_tables(compared, metrics)


def result_tables(compared: Comparison, metrics: Sequence[str] | None = None) -> Iterator[TextTable]:
    """The metrics with differences from the best, effects and fronts.

    Args:
        compared: the comparison.
        metrics: the metrics to show; none: all.
    """
    for name in compared.metrics:
        if metrics is None or name in metrics:
            yield _metric(compared, name)
    for effect in compared.effects:
        rows = [
            [level.value, str(level.runs), _estimate(level.mean), _judged(level.difference, level.probability)]
            for level in effect.levels
        ]
        share = "" if effect.importance is None else f"; importance {effect.importance:.0%}"
        balance = "" if effect.is_balanced else "; not balanced: the other choices differ between its values too"
        title = f"Effect of {effect.key} on {compared.primary}{share}{balance}"
        yield TextTable(title, [effect.key, "runs", "mean", "difference from the best"], rows)
    labels = {arm.id: arm.label for arm in compared.arms}
    for front in compared.fronts:
        known = dict(zip((arm.id for arm in compared.arms), front.costs, strict=True))
        means = dict(zip((arm.id for arm in compared.arms), compared.means[compared.primary or ""], strict=True))
        rows = [[labels[arm], format_cost(front.cost, known[arm]), _estimate(means[arm])] for arm in front.arms]
        title = f"Pareto front: {compared.primary} against {front.cost}"
        yield TextTable(title, ["arm", front.cost, str(compared.primary)], rows)


def _config(compared: Comparison) -> TextTable:
    """The choices that differ, then the keys; below a choice that differs, those that all its options have."""
    below = tuple(f"{group}." for group in compared.choices)
    keys = {
        key: values
        for key, values in compared.config.items()
        if not key.startswith(below) or all(value is not None for value in values)
    }
    keys = {key: values for key, values in keys.items() if not key.endswith("._target_") or not key.startswith(below)}
    told = {**compared.choices, **{key: values for key, values in keys.items() if key not in compared.choices}}
    left_out = len(compared.config) - len([key for key in told if key in compared.config])
    title = "What differs" + (f" ({left_out} keys that not all of these options have: --json)" if left_out else "")
    if len(compared.runs) <= MAX_COLUMNS:
        return TextTable(title, ["key", *compared.runs], [[key, *map(_shown, values)] for key, values in told.items()])
    rows = []
    for key, values in told.items():
        counts = Counter(map(_shown, values))
        rows.append([key, ", ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in counts.items())])
    return TextTable(title, ["key", "values"], rows)


def _metric(compared: Comparison, name: str) -> TextTable:
    means = compared.means.get(name)
    if means is None:
        told = [format_metric(value) for value in compared.metrics[name]]
        rows = [[run, value] for run, value in zip(compared.runs, told, strict=True)]
        return TextTable(f"{name} (not paired: {compared.unpaired[name]})", ["run", "value"], rows)
    differences = {one.arm: one for one in compared.differences[name]}
    rows = []
    for arm, mean in zip(compared.arms, means, strict=True):
        one = differences.get(arm.id)
        judged = "best" if one is None else _judged(one, one.probability)
        rows.append([arm.label, str(len(arm.runs)), _estimate(mean), judged])
    return TextTable(name, ["arm", "runs", "mean", "difference from the best, paired"], rows)


def conclusion(compared: Comparison, name: str | None = None) -> str:
    """What the comparison says of a metric, in a few sentences; of the primary one where none is named."""
    name = name or compared.primary
    if name is None or name not in compared.means:
        return "The runs cannot be compared example by example: " + "; ".join(sorted(set(compared.unpaired.values())))
    means = dict(zip((arm.id for arm in compared.arms), compared.means[name], strict=True))
    arms = {arm.id: arm for arm in compared.arms}
    best = arms[compared.best[name]]
    runs = f", mean of {len(best.runs)} runs" if len(best.runs) > 1 else ""
    said = [f"{name}: best is {best.label} with {_estimate(means[best.id])}{runs}."]
    alike = [one for one in compared.differences[name] if one.word != "differs"]
    others = [one for one in compared.differences[name] if one.word == "differs"]
    if alike:
        said.append(f"Not distinguishable from it: {_listed(alike, arms)}.")
    if others:
        said.append(f"It differs from {_listed(others, arms)}.")
    if compared.noise[name] is None:
        said.append("One run each: chance in training is not in these intervals (sweep.seeds=3 would tell it).")
    return " ".join(said)


def _listed(differences: Sequence[Difference], arms: dict[str, Arm]) -> str:
    """The arms that come nearest to the best, by name; the others by their number."""
    nearest = sorted(differences, key=lambda one: abs(one.value))[:MAX_NAMED]
    named = [f"{arms[one.arm].label} ({_judged(one, one.probability, word=False)})" for one in nearest]
    left_out = len(differences) - len(named)
    return ", ".join(named) + (f" and {left_out} more" if left_out else "")


def show(compared: Comparison, console: Console, metrics: Sequence[str] | None = None) -> None:
    """Print the comparison."""
    for one in tables(compared, metrics):
        table = Table(*one.headings, title=one.title, title_justify="left")
        for row in one.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    for title, lines in _disagreements(compared):
        console.print(Text(title, style="bold"))
        width = max(len(name) for name, _ in lines)
        for name, text in lines:
            console.print(Text(f"  {name:<{width}}  {text}"))
    if compared.effects and not can_tell_importance():
        hint = "The importance of each choice is told with scikit-learn: pip install 'instruct-lab[report]'"
        console.print(Text(hint), soft_wrap=True)
    left_out = [name for name in compared.metrics if metrics is not None and name not in metrics]
    if left_out:
        console.print(Text(f"Measured too (--metric NAME): {', '.join(left_out)}"), soft_wrap=True)
    console.print(Text(conclusion(compared)), soft_wrap=True)


def markdown(compared: Comparison, metrics: Sequence[str] | None = None) -> str:
    """The comparison as Markdown."""
    parts = []
    for one in tables(compared, metrics):
        parts.append(f"### {one.title}\n\n{markdown_table(one.headings, one.rows)}\n")
    for title, lines in _disagreements(compared):
        parts.append(f"### {title}\n\n" + "".join(f"- {name}: {escape_markdown(text)}\n" for name, text in lines))
    return "\n".join([*parts, escape_markdown(conclusion(compared))])


def _disagreements(compared: Comparison) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    labels = {compared.runs[run]: arm.label for arm in compared.arms for run in arm.runs}
    for one in compared.disagreements:
        lines = [("prompt", one.prompt), ("reference", one.references[0] if one.references else "-")]
        for run, prediction, score in zip(one.runs, one.predictions, one.scores, strict=True):
            lines.append((f"{labels[run]} ({score:.1f})", prediction))
        title = f"Where the two best differ most in {compared.primary}: {one.split} example {one.id}"
        yield title, [(name, shorten(text, MAX_TEXT)) for name, text in lines]


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _estimate(one: Estimate) -> str:
    return format_interval(one.value, one.low, one.high)


def _judged(difference: Estimate | Difference | None, probability: float | None, *, word: bool = True) -> str:
    """A difference with its interval, its probability and the word for it."""
    if difference is None or probability is None:
        return "best"
    interval = format_interval(difference.value, difference.low, difference.high, signed=True)
    text = f"{interval}, p = {probability:.2g}"
    return f"{text}: {verdict(probability)}" if word else text
