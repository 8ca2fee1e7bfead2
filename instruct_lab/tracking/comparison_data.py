"""What the page of a comparison shows, as plain data: a table's columns, learning curves, predictions; all bounded.

What does not fit is left out by a rule, and the rule is told in a note for the page.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instruct_lab.tracking.compare import Comparison
from instruct_lab.tracking.page import visible
from instruct_lab.tracking.record import RunRecord

MAX_POINTS, MIN_POINTS = 500, 20
"""Of one curve."""
CURVE_BYTES, PREDICTION_BYTES = 1_500_000, 1_200_000
NUMBER_BYTES = 8
"""What a number of five digits takes, about."""
MAX_TEXT = 1_500
"""Characters of a prompt, an answer or a reference."""
MAX_VALUE = 200
"""Characters of a config value."""
COSTS = {
    "training_seconds": ("training, s", 1.0),
    "seconds": ("whole run, s", 1.0),
    "peak_memory_bytes": ("peak memory, MB", 1e-6),
    "trained_parameters": ("trained parameters", 1.0),
    "tokens": ("tokens", 1.0),
    "weights_bytes": ("weights on disk, MB", 1e-6),
}


@dataclasses.dataclass(frozen=True)
class Column:
    """One property of every run.

    Args:
        key: unique.
        label: what is shown above it.
        kind: `choice`, `config`, `metric`, `logged`, `cost` or `status`.
        values: each run's; none where it has none.
        low: ends of the values' intervals, for metrics.
        high: the other ends.
        best: the run that is best by it.
        shown: whether the page shows it at first.
    """

    key: str
    label: str
    kind: str
    values: list[Any]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    best: int | None = None
    shown: bool = True

    @property
    def is_numeric(self) -> bool:
        """Whether all its values are numbers."""
        told = [value for value in self.values if value is not None]
        return bool(told) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in told)

    @property
    def is_log(self) -> bool:
        """Whether its values are better seen on a logarithmic axis: positive, over more than a decade and a half."""
        told = [value for value in self.values if value is not None] if self.is_numeric else []
        return len(told) > 1 and min(told) > 0 and max(told) / min(told) >= 30

    def to_json(self) -> dict[str, Any]:
        """As the page's script reads it."""
        told = dataclasses.asdict(self)
        if not self.is_numeric:
            told["values"] = [None if value is None else _told(value) for value in self.values]
        return {**told, "label": visible(self.label), "numeric": self.is_numeric, "log": self.is_log}


def comparison_data(records: Sequence[RunRecord], compared: Comparison) -> tuple[dict[str, Any], list[str]]:
    """The data of the page, and notes on what is not in it.

    Args:
        records: every run that the page shows; those of the comparison are among them.
        compared: the finished ones beside each other.
    """
    lines, curve_notes = curves([record.read_metrics() for record in records])
    answers, answer_notes = predictions([record.read_predictions() for record in records])
    labels = short_labels([record.id for record in records])
    runs = [{"id": record.id, "label": label} for record, label in zip(records, labels, strict=True)]
    table = [column.to_json() for column in columns(records, compared)]
    return {"runs": runs, "columns": table, "curves": lines, "predictions": answers}, [*curve_notes, *answer_notes]


def short_labels(ids: Sequence[str]) -> list[str]:
    """The ids without the whole parts that all of them begin with."""
    shared = os.path.commonprefix(list(ids))
    cut = shared.rfind("-") + 1
    labels = [visible(one[cut:]) for one in ids]
    return labels if all(labels) and len(set(labels)) == len(ids) > 1 else [visible(one) for one in ids]


# ---- columns


def columns(records: Sequence[RunRecord], compared: Comparison) -> list[Column]:
    """The options and config keys that differ, then metrics, the last logged losses, costs and the status."""
    manifests = [record.manifest for record in records]
    summaries = [record.summary or {} for record in records]
    return [
        *_config_columns(records, manifests, compared),
        *_metric_columns(records, compared),
        *_logged_columns(records, compared),
        *_cost_columns(manifests, summaries),
        _status_column(manifests),
    ]


def _config_columns(
    records: Sequence[RunRecord], manifests: Sequence[dict[str, Any]], compared: Comparison
) -> Iterable[Column]:
    choices = [manifest.get("choices") or {} for manifest in manifests]
    groups = [group for group in _keys(choices) if _differ([one.get(group) for one in choices])]
    for group in groups:
        yield Column(f"choice {group}", group, "choice", [one.get(group) for one in choices])
    swept = [(manifest.get("sweep") or {}).get("values") or {} for manifest in manifests]
    varied = [key for key in _keys(swept) if _differ([one.get(key) for one in swept])]
    configs = [record.config for record in records]
    for key in dict.fromkeys([*(key for key in varied if key not in groups), *compared.config]):
        values = [value_at(config, key) for config in configs]
        follows = key not in varied and any(key.startswith(f"{group.replace('/', '.')}.") for group in groups)
        if _differ(values):
            yield Column(f"config {key}", key, "config", values, shown=not follows)


def _metric_columns(records: Sequence[RunRecord], compared: Comparison) -> Iterable[Column]:
    places = {record.id: place for place, record in enumerate(records)}
    for name, found in compared.metrics.items():
        by_run = {run: value for run, value in zip(compared.runs, found, strict=True) if value is not None}
        ordered = [by_run.get(record.id) or {} for record in records]
        values, low, high = ([_number(one.get(part)) for one in ordered] for part in ("value", "low", "high"))
        best = compared.best.get(name)
        yield Column(f"metric {name}", name, "metric", values, low, high, best if best is None else places[best])


def _logged_columns(records: Sequence[RunRecord], compared: Comparison) -> Iterable[Column]:
    last: list[dict[str, Any]] = []
    for record in records:
        last.append({name: value for line in record.read_metrics() for name, value in line.items() if "/" in name})
    for name in _keys(last):
        if name not in compared.metrics and (name == "train/loss" or name.startswith("val/")):
            values = [_number(one.get(name)) for one in last]
            yield Column(f"last {name}", f"{name}, last", "logged", values, shown=name.endswith("/loss"))


def _cost_columns(manifests: Sequence[dict[str, Any]], summaries: Sequence[dict[str, Any]]) -> Iterable[Column]:
    found = [
        {**summary, "trained_parameters": (manifest.get("parameters") or {}).get("trained")}
        for manifest, summary in zip(manifests, summaries, strict=True)
    ]
    for key, (label, unit) in COSTS.items():
        values = [_number(one.get(key), unit) for one in found]
        if any(value is not None for value in values):
            yield Column(f"cost {key}", label, "cost", values, shown=key not in ("seconds", "weights_bytes"))


def _status_column(manifests: Sequence[dict[str, Any]]) -> Column:
    return Column("status", "status", "status", [str(manifest.get("status", "unknown")) for manifest in manifests])


def value_at(node: Any, key: str) -> Any:
    """The value of a full key; names that hold dots themselves are found too."""
    if not key:
        return node
    for name, inner in node.items() if isinstance(node, Mapping) else ():
        if key == name or key.startswith(f"{name}."):
            found = value_at(inner, key[len(str(name)) + 1 :])
            if found is not None:
                return found
    return None


def _keys(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _differ(values: Sequence[Any]) -> bool:
    return any(value != values[0] for value in values)


def _told(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _text(text, MAX_VALUE)


def _number(value: Any, unit: float = 1.0) -> float | int | None:
    """At most six digits, since more are noise and bytes."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value if unit == 1 and isinstance(value, int) else float(f"{value * unit:.6g}")


def _text(text: Any, most: int = MAX_TEXT) -> str:
    text = str(text)
    left = len(text) - most
    return visible(text if left <= 0 else f"{text[:most]} … ({left:,} more characters)")


# ---- curves


def curves(runs: Sequence[list[dict[str, Any]]]) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """Each run's logged values, thinned, as `{"step", "seconds", "values": {name: [...]}}` for names logged together.

    Args:
        runs: the lines of each run's `metrics.jsonl`.
    """
    grouped = [_groups(lines) for lines in runs]
    width = sum(len(names) + 2 for groups in grouped for names in groups.values())
    most = max(MIN_POINTS, min(MAX_POINTS, CURVE_BYTES // (NUMBER_BYTES * max(width, 1))))
    thinned, told = 0, []
    for lines, groups in zip(runs, grouped, strict=True):
        of_run = []
        for places, names in groups.items():
            guide = min(names, key=lambda name: (not name.endswith("/loss"), name))
            kept = thin([lines[place][guide] for place in places], most)
            thinned += (len(kept) < len(places)) * len(names)
            chosen = [lines[places[place]] for place in kept]
            values = {name: [_short(line[name]) for line in chosen] for name in names}
            axes = {axis: [_short(line.get(axis)) for line in chosen] for axis in ("step", "seconds")}
            of_run.append({**axes, "values": values})
        told.append(of_run)
    note = (
        f"{thinned:,} curves were logged in more than {most} points and are thinned to about as many: of each stretch "
        "the lowest and the highest loss are kept. metrics.jsonl of each run has all of them."
    )
    return told, [note] if thinned else []


def _groups(lines: Sequence[Mapping[str, Any]]) -> dict[tuple[int, ...], list[str]]:
    """Places of lines to the names that were logged in exactly these."""
    places: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        for name, value in line.items():
            if "/" in name and isinstance(value, int | float):
                places.setdefault(name, []).append(place)
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, found in places.items():
        groups.setdefault(tuple(found), []).append(name)
    return groups


def thin(values: Sequence[float], most: int) -> list[int]:
    """Places of at most about `most` values: the ends, and of each stretch the lowest and the highest.

    A value that is not finite counts as the highest, so that it stays visible that there was one.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = max(1, most // 2 - 1)

    def height(place: int) -> float:
        return values[place] if math.isfinite(values[place]) else math.inf

    kept = {0, len(values) - 1}
    for stretch in range(stretches):
        places = range(stretch * len(values) // stretches, (stretch + 1) * len(values) // stretches)
        kept |= {min(places, key=height), max(places, key=height)}
    return sorted(kept)


def _short(value: Any) -> float | int | None:
    number = _number(value)
    return number if number is None or isinstance(number, int) else float(f"{number:.5g}")


# ---- predictions


def predictions(runs: Sequence[list[dict[str, Any]]]) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Split to examples, each with every run's answer and scores; equal answers are told once.

    Args:
        runs: the lines of each run's `predictions.jsonl`.
    """
    found: dict[str, dict[str, list[dict[str, Any] | None]]] = {}
    for place, lines in enumerate(runs):
        for line in lines:
            split = found.setdefault(str(line.get("split", "")), {})
            split.setdefault(str(line.get("id", "")), [None] * len(runs))[place] = line
    told, notes, cut = {}, [], 0
    for split, by_id in found.items():
        left, chosen = PREDICTION_BYTES // len(found), []
        for place in _in_turn(list(by_id.values())):
            one = list(by_id)[place]
            example = _example(one, by_id[one])
            left -= len(json.dumps(example, ensure_ascii=False).encode(errors="replace"))
            if left < 0:
                break
            cut += _is_cut(by_id[one])
            chosen.append((place, example))
        told[visible(split)] = [example for _, example in sorted(chosen, key=lambda pair: pair[0])]
        if len(chosen) < len(by_id):
            notes.append(
                f"{len(chosen):,} of the {len(by_id):,} {split} examples are here: in turn the next in order and the "
                "next by how far the runs' scores differ. predictions.jsonl of each run has all of them."
            )
    if cut:
        notes.append(f"Texts of more than {MAX_TEXT:,} characters are cut, in {cut:,} examples.")
    return told, notes


def _in_turn(examples: Sequence[Sequence[dict[str, Any] | None]]) -> Iterable[int]:
    """Every place once: the next in order, then the next by how far the runs' scores differ, and so on."""
    scored = [[line.get("scores") or {} for line in lines if line is not None] for lines in examples]
    widest: dict[str, float] = {}
    spread = []
    for scores in scored:
        by_metric = {name: [v for one in scores if (v := _number(one.get(name))) is not None] for name in _keys(scores)}
        spread.append({name: max(found) - min(found) for name, found in by_metric.items() if found})
        for name, width in spread[-1].items():
            widest[name] = max(widest.get(name, 0.0), width)

    def apart(place: int) -> float:
        return max((width / widest[name] for name, width in spread[place].items() if widest[name]), default=0.0)

    ranked = sorted(range(len(examples)), key=apart, reverse=True)
    return dict.fromkeys(place for pair in enumerate(ranked) for place in pair)


def _example(one: str, lines: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    texts: dict[str, int] = {}

    def place(line: dict[str, Any] | None, key: str) -> int | None:
        text = None if line is None else line.get(key)
        return None if text is None else texts.setdefault(_text(text), len(texts))

    told = [line for line in lines if line is not None]
    metrics = _keys(line.get("scores") or {} for line in told)
    after, before = ([place(line, key) for line in lines] for key in ("prediction", "prediction_before"))
    return {
        "id": visible(one),
        "prompt": _text(told[0].get("prompt", "")),
        "others": any(line.get("prompt") != told[0].get("prompt") for line in told),
        "references": [_text(reference) for reference in told[0].get("references") or []],
        "texts": list(texts),
        "after": after,
        "before": before if any(entry is not None for entry in before) else None,
        "scores": {name: [_score(line, name) for line in lines] for name in metrics},
    }


def _score(line: dict[str, Any] | None, name: str) -> float | int | None:
    return None if line is None else _short((line.get("scores") or {}).get(name))


def _is_cut(lines: Sequence[dict[str, Any] | None]) -> bool:
    texts = [line.get(key) or "" for line in lines if line for key in ("prompt", "prediction", "prediction_before")]
    references = [text for line in lines if line for text in line.get("references") or []]
    return any(len(str(text)) > MAX_TEXT for text in [*texts, *references])
