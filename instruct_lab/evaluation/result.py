"""What a run came to: the table, `summary.json` and `predictions.jsonl`."""

from __future__ import annotations

import dataclasses
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from instruct_lab.evaluation.measure import SHORT_NAMES, Measurement
from instruct_lab.experiment import Experiment
from instruct_lab.generation import Prediction
from instruct_lab.metrics.intervals import example_scores, paired_difference
from instruct_lab.pages.format import format_interval, shorten

Results = dict[str, dict[str, Measurement]]
"""Split to system (`before`, the baselines' names, `after`) to measurement."""


def as_json(results: Results, only: str | None = None) -> dict[str, Any]:
    """Measurements as plain containers, for the record: every system's, or only one's."""
    return {
        split: {
            system: dataclasses.asdict(measurement)
            for system, measurement in systems.items()
            if only is None or system == only
        }
        for split, systems in results.items()
    }


def from_json(plain: dict[str, Any]) -> Results:
    """Measurements out of the record again."""
    return {
        split: {
            system: Measurement(
                predictions=[_prediction(plain) for plain in values["predictions"]],
                rows=values["rows"],
                sources=values.get("sources", []),
            )
            for system, values in systems.items()
        }
        for split, systems in plain.items()
    }


def _prediction(plain: dict[str, Any]) -> Prediction:
    lists = {name: tuple(plain.get(name, ())) for name in ("references", "samples")}
    return Prediction(**{**plain, **lists})


def summary_metrics(experiment: Experiment, results: Results) -> dict[str, Any]:
    """The `metrics` of `summary.json`: `split/metric` to system to value, interval, count and signature.

    Where results are told by source too, `split/source/metric` holds those of each source.
    """
    metrics: dict[str, Any] = {}
    for split, systems in results.items():
        metrics |= _named(experiment, SHORT_NAMES[split], systems)
        sources = sorted({source for measurement in systems.values() for source in measurement.sources})
        if experiment.tells_by_source and len(sources) > 1:
            for source in sources:
                of_source = {system: measurement.of_source(source) for system, measurement in systems.items()}
                metrics |= _named(experiment, f"{SHORT_NAMES[split]}/{source}", of_source)
    return metrics


def _named(experiment: Experiment, prefix: str, systems: dict[str, Measurement]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for system, measurement in systems.items():
        for name, value in measurement.values(experiment).items():
            metrics.setdefault(f"{prefix}/{name}", {})[system] = dataclasses.asdict(value)
    for name, difference in _differences(experiment, systems).items():
        metrics[f"{prefix}/{name}"]["difference"] = difference
    return metrics


def _differences(experiment: Experiment, systems: dict[str, Measurement]) -> dict[str, Any]:
    """After minus before on the same examples, with the interval of a paired bootstrap."""
    if "before" not in systems or "after" not in systems:
        return {}
    before, after = systems["before"].rows, systems["after"].rows
    return {
        name: dataclasses.asdict(paired_difference(experiment.active_metrics[name], before[name], after[name]))
        for name in after
        if after[name] and len(before.get(name, [])) == len(after[name])
    }


def prediction_rows(experiment: Experiment, results: Results) -> list[dict[str, Any]]:
    """The lines of `predictions.jsonl`."""
    lines = []
    for split, systems in results.items():
        after = systems["after"]
        before = systems.get("before")
        scores = {
            name: example_scores(experiment.active_metrics[name], rows)
            for name, rows in after.rows.items()
            if len(rows) == len(after.predictions)
        }
        for index, prediction in enumerate(after.predictions):
            lines.append(
                {
                    "id": prediction.id,
                    "split": split,
                    "prompt": prediction.prompt,
                    "prediction": prediction.text,
                    "prediction_before": before.predictions[index].text if before else None,
                    "references": list(prediction.references),
                    "scores": {name: values[index] for name, values in scores.items()},
                }
            )
    return lines


def show(console: Console, experiment: Experiment, results: Results, metrics: dict[str, Any]) -> None:
    """Print the final table of each split, and sample predictions below."""
    for split, systems in results.items():
        count = max((len(rows) for m in systems.values() for rows in m.rows.values()), default=0)
        console.print(_table(split, count, list(systems), metrics, between=" " if console.width >= WIDE else "\n"))
    for split, systems in results.items():
        for index in range(min(experiment.evaluation.show_samples, len(systems["after"].predictions))):
            _show_sample(console, split, index, systems)
        break  # samples of the first split only


HEADINGS = {"before": "untuned", "after": "tuned"}


WIDE = 130
"""Columns of a terminal that holds a value and its interval in one line, for five systems."""


def _table(split: str, count: int, systems: list[str], metrics: dict[str, Any], between: str) -> Table:
    table = Table(title=f"{split}: {count} held-out examples, 95% bootstrap intervals", title_justify="left")
    table.add_column("metric")
    for system in systems:
        table.add_column(HEADINGS.get(system, system), justify="right")
    prefix = SHORT_NAMES[split] + "/"
    shown = {name: values for name, values in metrics.items() if name.startswith(prefix)}
    has_difference = any("difference" in values for values in shown.values())
    if has_difference:
        table.add_column("tuned - untuned", justify="right")
    for name, values in shown.items():
        cells = [_cell(values.get(system), between) for system in systems]
        if has_difference:
            cells.append(_cell(values.get("difference"), between, signed=True))
        table.add_row(name.removeprefix(prefix), *cells)
    return table


def _cell(value: dict[str, Any] | None, between: str, signed: bool = False) -> str:
    if value is None:
        return "-"
    digits = 2 if abs(value["value"]) < 100 else 1
    ends = (value["low"], value["high"])
    return format_interval(value["value"], *ends, digits=digits, signed=signed, separator=between)


def _show_sample(console: Console, split: str, index: int, systems: dict[str, Measurement]) -> None:
    prediction = systems["after"].predictions[index]
    lines = [("prompt", prediction.prompt), ("reference", prediction.references[0])]
    if "before" in systems:
        lines.append(("untuned", systems["before"].predictions[index].text))
    lines.append(("tuned", prediction.text))
    console.print(Text(f"{split} example {prediction.id}", style="bold"))
    for name, text in lines:
        console.print(Text(f"  {name:<10} {shorten(text, 200)}"))
