"""Compare finished runs honestly: what differs in their configs, each metric with its interval, paired differences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from instruct_lab.config.build import build
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import Metric
from instruct_lab.metrics.intervals import paired_test
from instruct_lab.tracking.record import RunRecord

LEVEL = 0.05
LEFT_OUT = ("name", "runs_path", "cache_path")
PREFIXES = {"val": "validation", "test": "test"}


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much more one run has than the best, on the same examples.

    Args:
        run: its id.
        value: its metric less that of the best run.
        low: of the 95% interval by paired bootstrap.
        high: of the same.
        probability: two-sided, of such a difference where there is none; corrected for the number of runs compared
            (Holm, 1979).
        count: examples.
    """

    run: str
    value: float
    low: float
    high: float
    probability: float
    count: int

    @property
    def word(self) -> str:
        """What may be said of it."""
        return "differs" if self.probability < LEVEL else "not distinguishable"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Several runs beside each other.

    Args:
        runs: ids, in the order given.
        config: full key to each run's value, for the keys that differ.
        metrics: `split/metric` to each run's value with its interval, as in `summary.json`; none where it has none.
        best: `split/metric` to the id of the best run.
        differences: `split/metric` to each other run's difference from the best; empty where runs cannot be paired.
        unpaired: `split/metric` to why runs cannot be paired.
    """

    runs: list[str]
    config: dict[str, list[Any]]
    metrics: dict[str, list[dict[str, Any] | None]]
    best: dict[str, str]
    differences: dict[str, list[Difference]]
    unpaired: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """As plain containers."""
        told = dataclasses.asdict(self)
        for name, differences in self.differences.items():
            told["differences"][name] = [{**dataclasses.asdict(one), "word": one.word} for one in differences]
        return told


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Compare runs on the examples that they were measured on.

    Every other run is compared with the best of each metric; so several comparisons are made at once, and their
    probabilities are corrected for it.

    Args:
        records: of finished runs, two at least.

    Raises:
        InstructLabError: there are fewer, or one has no results.
    """
    if len(records) < 2:
        raise InstructLabError(
            "There is nothing to compare: fewer than two finished runs", do="name several, or a sweep"
        )
    summaries = {record.id: _results(record) for record in records}
    names = list(dict.fromkeys(name for metrics in summaries.values() for name in metrics))
    metrics = {name: [summaries[record.id].get(name, {}).get("after") for record in records] for name in names}
    measured = [_measured(record) for record in records]
    scored = build(OmegaConf.create({"metrics": records[0].config.get("metrics") or {}})).root["metrics"]
    best, differences, unpaired = {}, {}, {}
    for name, values in metrics.items():
        prefix, _, short = name.rpartition("/")
        metric, split = scored.get(short), PREFIXES.get(prefix)
        if metric is None or split is None or any(value is None or value["value"] is None for value in values):
            unpaired[name] = "not every run was measured by it, split by split"
            continue
        sign = 1 if metric.higher_is_better else -1
        index = max(range(len(values)), key=lambda place: sign * values[place]["value"])
        best[name] = records[index].id
        rows = [_rows(one, split, short) for one in measured]
        if any(row is None for row in rows) or len({_examples(one, split) for one in measured}) > 1:
            unpaired[name] = "the runs were not measured on the same examples"
        elif len({value["signature"].split("|empty")[0] for value in values if value}) > 1:
            unpaired[name] = "the runs were not measured in the same way"
        else:
            differences[name] = list(_differences(metric, [record.id for record in records], rows, index))
    ids = [record.id for record in records]
    return Comparison(ids, _config_differences(records), metrics, best, differences, unpaired)


def _results(record: RunRecord) -> dict[str, Any]:
    found = (record.summary or {}).get("metrics")
    if not found:
        raise InstructLabError(
            "The run has no results to compare", where=f"run {record.id}", do="finish it: instruct-lab resume"
        )
    return dict(found)


def _measured(record: RunRecord) -> dict[str, Any]:
    return dict(record.read_json("after.json") or {})


def _rows(measured: Mapping[str, Any], split: str, metric: str) -> Any:
    return measured.get(split, {}).get("after", {}).get("rows", {}).get(metric)


def _examples(measured: Mapping[str, Any], split: str) -> tuple[str, ...]:
    after = measured.get(split, {}).get("after", {})
    return tuple(prediction["id"] for prediction in after.get("predictions", [])) or (str(len(after.get("rows", {}))),)


def _differences(metric: Metric, ids: list[str], rows: list[Any], best: int) -> Iterator[Difference]:
    others = [place for place in range(len(ids)) if place != best]
    tests = {place: paired_test(metric, rows[best], rows[place]) for place in others}
    corrected = holm([probability for _, probability in tests.values()])
    for (place, (value, _)), probability in zip(tests.items(), corrected, strict=True):
        yield Difference(ids[place], value.value, value.low, value.high, probability, value.count)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities corrected for being several, in their order (Holm, 1979)."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    corrected, least = [0.0] * len(probabilities), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(probabilities) - rank) * probabilities[place]))
        corrected[place] = least
    return corrected


def _config_differences(records: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The keys whose values are not the same in all runs."""
    flat = [dict(_flat(record.config)) for record in records]
    keys = dict.fromkeys(key for one in flat for key in one)
    kept = [key for key in keys if key.split(".")[0] not in LEFT_OUT]
    found = {key: [one.get(key) for one in flat] for key in kept}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for key, inner in node.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, node


# ---- shown


def tables(compared: Comparison) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and cells of each table: the config, then the metrics with their differences from the best."""
    if compared.config:
        rows = [[key, *(_shown(value) for value in values)] for key, values in compared.config.items()]
        yield "What differs", ["key", *compared.runs], rows
    for name, values in compared.metrics.items():
        by_run = {one.run: one for one in compared.differences.get(name, [])}
        rows = []
        for run, value in zip(compared.runs, values, strict=True):
            difference, judged = by_run.get(run), ""
            if difference is not None:
                span = f"[{difference.low:+.2f}, {difference.high:+.2f}]"
                judged = f"{difference.value:+.2f} {span}, p = {difference.probability:.3g}: {difference.word}"
            elif compared.best.get(name) == run:
                judged = "best"
            rows.append([run, _interval(value), judged])
        yield name, ["run", "value", compared.unpaired.get(name) or "difference from the best, paired"], rows


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _interval(value: Mapping[str, Any] | None) -> str:
    if value is None or value["value"] is None:
        return "-"
    low, high = (math.nan if value[end] is None else value[end] for end in ("low", "high"))
    return f"{value['value']:.2f} [{low:.2f}, {high:.2f}]"


def show(compared: Comparison, console: Console) -> None:
    """Print the comparison."""
    for title, headings, rows in tables(compared):
        table = Table(*headings, title=title, title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def markdown(compared: Comparison) -> str:
    """The comparison as Markdown tables."""
    parts = []
    for title, headings, rows in tables(compared):
        lines = [headings, ["---"] * len(headings), *rows]
        written = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        parts.append(f"### {title}\n\n{written}\n")
    return "\n".join(parts)
