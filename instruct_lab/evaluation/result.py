"""What a run came to: the table, `summary.json` and `predictions.jsonl`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instruct_lab.evaluation.measure import metric_values
from instruct_lab.experiment import Experiment
from instruct_lab.metrics import MetricValue
from instruct_lab.metrics.intervals import example_scores, paired_difference
from instruct_lab.pages.format import format_interval, shorten
from instruct_lab.records.schema import AFTER, BEFORE, DIFFERENCE, SHORT_NAMES, Measurement, PredictionLine, Results

Metrics = dict[str, dict[str, MetricValue]]
"""`split/metric` to system to value: the metrics of a summary."""


def summary_metrics(experiment: Experiment, results: Results) -> Metrics:
    """The `metrics` of `summary.json`: `split/metric` to system to value, interval, count and signature.

    Where results are told by source too, `split/source/metric` holds those of each source.
    """
    metrics: Metrics = {}
    for split, systems in results.items():
        metrics |= _named(experiment, SHORT_NAMES[split], systems)
        sources = sorted({source for measurement in systems.values() for source in measurement.sources})
        if experiment.reports_by_source and len(sources) > 1:
            for source in sources:
                of_source = {system: measurement.of_source(source) for system, measurement in systems.items()}
                metrics |= _named(experiment, f"{SHORT_NAMES[split]}/{source}", of_source)
    return metrics


def _named(experiment: Experiment, prefix: str, systems: dict[str, Measurement]) -> Metrics:
    metrics: Metrics = {}
    for system, measurement in systems.items():
        for name, value in metric_values(experiment.active_metrics, measurement).items():
            metrics.setdefault(f"{prefix}/{name}", {})[system] = value
    for name, difference in _differences(experiment, systems).items():
        metrics[f"{prefix}/{name}"][DIFFERENCE] = difference
    return metrics


def _differences(experiment: Experiment, systems: dict[str, Measurement]) -> dict[str, MetricValue]:
    """After minus before on the same examples, with the interval of a paired bootstrap."""
    if BEFORE not in systems or AFTER not in systems:
        return {}
    before, after = systems[BEFORE].rows, systems[AFTER].rows
    return {
        name: paired_difference(experiment.active_metrics[name], before[name], after[name])
        for name in after
        if after[name] and len(before.get(name, [])) == len(after[name])
    }


def prediction_rows(experiment: Experiment, results: Results) -> list[PredictionLine]:
    """The lines of `predictions.jsonl`."""
    lines = []
    for split, systems in results.items():
        after = systems[AFTER]
        before = systems.get(BEFORE)
        scores = {
            name: example_scores(experiment.active_metrics[name], rows)
            for name, rows in after.rows.items()
            if len(rows) == len(after.predictions)
        }
        for index, prediction in enumerate(after.predictions):
            lines.append(
                PredictionLine(
                    id=prediction.id,
                    split=split,
                    prompt=prediction.prompt,
                    prediction=prediction.text,
                    prediction_before=before.predictions[index].text if before else None,
                    references=list(prediction.references),
                    scores={name: values[index] for name, values in scores.items()},
                )
            )
    return lines


def show(console: Console, experiment: Experiment, results: Results, metrics: Metrics) -> None:
    """Print the final table of each split, and sample predictions below."""
    for split, systems in results.items():
        count = max((len(rows) for m in systems.values() for rows in m.rows.values()), default=0)
        console.print(_table(split, count, list(systems), metrics, between=" " if console.width >= WIDE else "\n"))
    for split, systems in results.items():
        for index in range(min(experiment.evaluation.show_samples, len(systems[AFTER].predictions))):
            _show_sample(console, split, index, systems)
        break  # samples of the first split only


HEADINGS: dict[str, str] = {BEFORE: "untuned", AFTER: "tuned"}
WIDE = 130
"""Columns of a terminal that holds a value and its interval in one line, for five systems."""


def _table(split: str, count: int, systems: list[str], metrics: Metrics, between: str) -> Table:
    table = Table(title=f"{split}: {count} held-out examples, 95% bootstrap intervals", title_justify="left")
    table.add_column("metric")
    for system in systems:
        table.add_column(HEADINGS.get(system, system), justify="right")
    prefix = SHORT_NAMES[split] + "/"
    shown = {name: values for name, values in metrics.items() if name.startswith(prefix)}
    has_difference = any(DIFFERENCE in values for values in shown.values())
    if has_difference:
        table.add_column("tuned - untuned", justify="right")
    for name, values in shown.items():
        cells = [_cell(values.get(system), between) for system in systems]
        if has_difference:
            cells.append(_cell(values.get(DIFFERENCE), between, signed=True))
        table.add_row(name.removeprefix(prefix), *cells)
    return table


def _cell(value: MetricValue | None, between: str, signed: bool = False) -> str:
    if value is None:
        return "-"
    digits = 2 if abs(value.value) < 100 else 1
    return format_interval(value.value, value.low, value.high, digits=digits, signed=signed, separator=between)


def _show_sample(console: Console, split: str, index: int, systems: dict[str, Measurement]) -> None:
    prediction = systems[AFTER].predictions[index]
    lines = [("prompt", prediction.prompt), ("reference", prediction.references[0])]
    if BEFORE in systems:
        lines.append(("untuned", systems[BEFORE].predictions[index].text))
    lines.append(("tuned", prediction.text))
    console.print(Text(f"{split} example {prediction.id}", style="bold"))
    for name, text in lines:
        console.print(Text(f"  {name:<10} {shorten(text, 200)}"))
