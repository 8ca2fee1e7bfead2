"""Reports of a run's results: the printed table, the metrics of `summary.json`, the lines of `predictions.jsonl`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instruct_lab.evaluation.measure import metric_values
from instruct_lab.evaluation.notes import count_notes, selection_notes, value_notes
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.metrics import AnswerMetric, MetricValue
from instruct_lab.metrics.benchmark import score_of
from instruct_lab.metrics.intervals import example_scores, paired_difference
from instruct_lab.metrics.references import all_references
from instruct_lab.metrics.signatures import with_engine
from instruct_lab.pages.format import digits_of, format_interval, shorten
from instruct_lab.records.measurement import Measurement, Results
from instruct_lab.records.note_lines import note_lines
from instruct_lab.records.schema import AFTER, BEFORE, DIFFERENCE, PredictionLine, short_name

Metrics = dict[str, dict[str, MetricValue]]
"""The metrics of a summary, keyed by `split/metric` and then by system.

A system is the base model, the tuned model, a baseline, or the difference between the two models.
"""


def summary_metrics(setup: EvaluationSetup, results: Results) -> Metrics:
    """Compute the `metrics` of `summary.json`, keyed by `split/metric` and then by system.

    A system is the base model, the tuned model, a baseline, or the difference between the two models. If results are
    also reported for each data source, these have keys of the form `split/source/metric`.
    """
    metrics: Metrics = {}
    for split, systems in results.items():
        of_split = _setup_of(setup, systems)
        metrics |= _named(of_split, split, "", systems)
        sources = sorted({source for measurement in systems.values() for source in measurement.sources})
        if setup.by_source and len(sources) > 1:
            for source in sources:
                of_source = {system: measurement.of_source(source) for system, measurement in systems.items()}
                metrics |= _named(of_split, split, f"{source}/", of_source)
    return metrics


def _setup_of(setup: EvaluationSetup, systems: dict[str, Measurement]) -> EvaluationSetup:
    """Return a copy of the settings with the metrics for the results of one split or benchmark.

    For a split, these are the run's metrics, adapted to the split's references, for example to their writing system.
    For a benchmark, they are the benchmark's own scores.
    """
    signatures = {name: text for one in systems.values() for name, text in one.signatures.items()}
    if signatures:
        return dataclasses.replace(setup, metrics={name: score_of(text) for name, text in signatures.items()})
    references = next((all_references(one.predictions) for one in systems.values() if one.predictions), [])
    return setup.for_references(references)


def _named(setup: EvaluationSetup, split: str, source: str, systems: dict[str, Measurement]) -> Metrics:
    metrics: Metrics = {}
    prefix = f"{short_name(split)}/{source}"
    for system, measurement in systems.items():
        for name, value in metric_values(setup.metrics, measurement).items():
            notes = value_notes(setup, split, system, name, measurement)
            signature = _signature(setup, name, value) if system in (BEFORE, AFTER) else value.signature
            value = dataclasses.replace(value, signature=signature, notes=tuple(notes))
            metrics.setdefault(f"{prefix}{name}", {})[system] = value
    for name, difference in _differences(setup, systems).items():
        notes = [*count_notes(difference.count), *selection_notes(setup, split)]
        signature = _signature(setup, name, difference)
        difference = dataclasses.replace(difference, signature=signature, notes=tuple(notes))
        metrics[f"{prefix}{name}"][DIFFERENCE] = difference
    return metrics


def _signature(setup: EvaluationSetup, name: str, value: MetricValue) -> str:
    """Return the text that describes how a value was computed; for metrics of answers, it names the decoding engine."""
    reads_answers = isinstance(setup.metrics[name], AnswerMetric)
    return with_engine(value.signature, setup.generation.engine) if reads_answers else value.signature


def _differences(setup: EvaluationSetup, systems: dict[str, Measurement]) -> dict[str, MetricValue]:
    """Compute the tuned model's value minus the base model's on the same examples, with a paired bootstrap interval.

    The result is empty if one of the models was not measured, or if they were measured on different examples, for
    example because the data of a benchmark has changed between the two measurements.
    """
    if BEFORE not in systems or AFTER not in systems:
        return {}
    measured = [[one.id for one in systems[system].predictions] for system in (BEFORE, AFTER)]
    if all(measured) and measured[0] != measured[1]:
        return {}
    before, after = systems[BEFORE].rows, systems[AFTER].rows
    return {
        name: paired_difference(
            setup.metrics[name], before[name], after[name], clusters=systems[AFTER].clusters_of(after[name])
        )
        for name in after
        if after[name] and len(before.get(name, [])) == len(after[name])
    }


def prediction_lines(setup: EvaluationSetup, results: Results) -> list[PredictionLine]:
    """Create the lines of `predictions.jsonl`, one for each example that the tuned model answered."""
    lines = []
    for split, systems in results.items():
        after, metrics = systems[AFTER], _setup_of(setup, systems).metrics
        before = systems.get(BEFORE)
        scores = {
            name: example_scores(metrics[name], rows)
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
                    cluster=after.clusters[index] if after.clusters else "",
                )
            )
    return lines


def show(console: Console, setup: EvaluationSetup, results: Results, metrics: Metrics) -> None:
    """Print the final table of each split with the notes on its values, and then sample predictions."""
    for split, systems in results.items():
        count = max((len(rows) for m in systems.values() for rows in m.rows.values()), default=0)
        title = f"{split}: {count} held-out examples, 95% bootstrap intervals"
        console.print(fitting_table(title, short_name(split), list(systems), metrics, console))
        for line in note_lines(metrics, f"{short_name(split)}/", HEADINGS):
            console.print(Text(f"note: {line}"), soft_wrap=not console.is_terminal)
    for split, systems in results.items():
        for index in range(min(setup.show_samples, len(systems[AFTER].predictions))):
            show_sample(console, split, index, systems)
        break  # samples of the first split only


HEADINGS: dict[str, str] = {BEFORE: "untuned", AFTER: "tuned"}


def fitting_table(title: str, split: str, systems: list[str], metrics: Metrics, console: Console) -> Table:
    """Return a table of one split's metrics that fits the console, without breaking a number over two lines.

    If the table is too wide, each interval is put below its value. If it is still too wide, baselines are left out and
    named in the caption.

    Args:
        title: title of the table.
        split: short name of the split.
        systems: names of the systems, in order.
        metrics: the metrics, keyed by `split/metric` and then by system.
        console: the console.
    """
    baselines = [system for system in systems if system not in HEADINGS]
    table = _table(title, split, systems, metrics, " ")
    for num_left in range(len(baselines), -1, -1):
        if _width(table, console) <= console.width:
            break
        left_out = baselines[num_left:]
        table = _table(title, split, [system for system in systems if system not in left_out], metrics, "\n")
        if left_out:
            table.caption = f"left out, since the terminal is narrow: {', '.join(left_out)}"
            table.caption_justify = "left"
    return table


def _width(table: Table, console: Console) -> int:
    return table.__rich_measure__(console, console.options.update(width=MEASURED_WIDTH)).maximum


MEASURED_WIDTH = 10_000
"""Width in characters into which every table fits."""


def _table(title: str, split: str, systems: list[str], metrics: Metrics, between: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("metric", overflow="fold")
    for system in systems:
        table.add_column(HEADINGS.get(system, system), justify="right", no_wrap=True)
    prefix = f"{split}/"
    of_split = {name: values for name, values in metrics.items() if name.startswith(prefix)}
    has_difference = any(DIFFERENCE in values for values in of_split.values())
    if has_difference:
        table.add_column("tuned - untuned", justify="right", no_wrap=True)
    for name, values in of_split.items():
        cells = [_cell(values.get(system), between) for system in systems]
        if has_difference:
            cells.append(_cell(values.get(DIFFERENCE), between, signed=True))
        table.add_row(name.removeprefix(prefix), *cells)
    return table


def _cell(value: MetricValue | None, between: str, signed: bool = False) -> str:
    if value is None:
        return "-"
    digits = digits_of(value) if abs(value.value) < 100 else 1
    return format_interval(value.value, value.low, value.high, digits=digits, signed=signed, separator=between)


def show_sample(console: Console, split: str, index: int, systems: Mapping[str, Measurement]) -> None:
    """Print the prompt, the reference and the models' answers of one example, each with its name to the left.

    Args:
        console: the console.
        split: name of the split.
        index: index of the example.
        systems: the split's measurements, keyed by system.
    """
    prediction = systems[AFTER].predictions[index]
    lines = [("prompt", prediction.prompt), ("reference", prediction.references[0])]
    if BEFORE in systems:
        lines.append(("untuned", systems[BEFORE].predictions[index].text))
    lines.append(("tuned", prediction.text))
    console.print(Text(f"{split} example {prediction.id}", style="bold"))
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=12)
    table.add_column(ratio=1, overflow="fold")
    for name, text in lines:
        table.add_row(f"  {name}", Text(shorten(text, 200) or "(empty)"))
    console.print(table)
