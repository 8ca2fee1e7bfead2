"""Render one run as a self-contained HTML page.

The page shows results, curves, settings, the audit of the data, answers to examples, and the computer's hardware.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from omegaconf import OmegaConf

from instruct_lab.comparison.page.curves import curves
from instruct_lab.comparison.page.examples import predictions
from instruct_lab.comparison.page.page import page_scripts, page_styles
from instruct_lab.comparison.page.values import logged_values
from instruct_lab.comparison.run_text import (
    COST_NAMES,
    cost_texts,
    difference_text,
    evaluation_title,
    head_lines,
    option_text,
    setting_rows,
    settings_title,
    value_text,
)
from instruct_lab.config.build import build
from instruct_lab.metrics import AnswerMetric, Metric, MetricValue
from instruct_lab.metrics.intervals import example_scores
from instruct_lab.pages.audit_page import audit_values
from instruct_lab.pages.format import format_bytes, format_metric
from instruct_lab.pages.render import render_page, render_part, render_table, write_page
from instruct_lab.records import Measurement, PredictionLine
from instruct_lab.records.config_file import to_yaml
from instruct_lab.records.note_lines import note_lines
from instruct_lab.records.record import RunRecord
from instruct_lab.records.run_report import RunReport, result_rows
from instruct_lab.records.schema import AFTER, AUDIT, BEFORE, DIFFERENCE

if TYPE_CHECKING:
    from instruct_lab.records.run_report import MetricTable

TEMPLATE = "comparison/page/templates/run.html"
SCRIPTS = ("state", "table", "charts", "curves", "words", "predictions", "run")
SYSTEMS = ("base model", "after training")
"""Headings for the two systems whose answers are compared."""
MAX_INPUTS = 30
"""Maximum number of input files that the page lists."""


def write_run_page(path: Path, report: RunReport) -> Path:
    """Write the HTML page of a run and return its path.

    Args:
        path: path of the HTML file to write.
        report: the report about the run, which contains its record.

    Raises:
        InstructLabError: the HTML file cannot be written, or the run's record is damaged.
    """
    write_page(path, run_page(report))
    return path


def run_page(report: RunReport) -> str:
    """Render the page of a run as HTML; all data is escaped, and the page requests nothing from the network."""
    record = report.record
    logged, curve_notes = curves([[], logged_values(record)])
    metrics = _metrics(record)
    answers, answer_notes = predictions(_answers(record, metrics))
    title, *head = head_lines(report)
    data = {
        "runs": [{"id": name, "label": name} for name in SYSTEMS],
        "columns": [],
        "baselines": [],
        "primary": next((name for name in report.results if _reads_answers(metrics, name)), None),
        "curves": logged,
        "isOneRun": True,
        "predictions": answers,
    }
    audit = record.read_json(AUDIT)
    return render_page(
        TEMPLATE,
        title[:1].upper() + title[1:],
        styles=page_styles(),
        scripts=page_scripts(SCRIPTS),
        head=head,
        notes=[*curve_notes, *answer_notes],
        measured=[
            ("", _results_table(report.results), list(_result_notes(report.results))),
            *(
                (evaluation_title(name), _results_table(results), list(_result_notes(results)))
                for name, results in report.evaluations.items()
            ),
        ],
        settings_title=settings_title(report),
        settings=_table(["option or key", "value", "default"], setting_rows(report)),
        derived=_table(["key", "value", "reason"], list(_derived(report))),
        config=to_yaml(record.config),
        audit=audit_values(audit) if audit else None,
        system=render_table(["", ""], list(_system(report))),
        inputs=_inputs(report),
        num_inputs_left=len(report.manifest.inputs[MAX_INPUTS:]),
        packages=render_table(["package", "version"], list(report.manifest.packages.items())),
        files=[f"{path}: {text}" for path, text in report.files.items()],
        data=data,
    )


# ---- answers


def _metrics(record: RunRecord) -> dict[str, Metric]:
    """Create the metric objects that the run's config describes, keyed by name."""
    found: dict[str, Metric] = build(OmegaConf.create({"metrics": record.config.get("metrics") or {}})).root["metrics"]
    return found


def _reads_answers(metrics: Mapping[str, Metric], name: str) -> bool:
    """Whether a metric scores generated answers: chrF does, perplexity does not.

    Args:
        metrics: the run's metrics, keyed by name.
        name: full name of the metric, `split/metric`.
    """
    return isinstance(metrics.get(name.rpartition("/")[2]), AnswerMetric)


def _answers(record: RunRecord, metrics: Mapping[str, Metric]) -> list[list[PredictionLine]]:
    """Return two lists: the answers of the base model and the answers of the tuned model, each with its scores."""
    after = record.read_predictions()
    scores = _scores_before(record, metrics)
    before = [
        dataclasses.replace(line, prediction=line.prediction_before, scores=scores.get((line.split, line.id), {}))
        for line in after
        if line.prediction_before is not None
    ]
    return [[dataclasses.replace(line, prediction_before=None) for line in lines] for lines in (before, after)]


def _scores_before(record: RunRecord, metrics: Mapping[str, Metric]) -> dict[tuple[str, str], dict[str, float | None]]:
    """Compute the scores of the base model's answers, keyed by (split, id of the example) and then by metric."""
    results = record.read_results(BEFORE) or {}
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for split, systems in results.items():
        measured = systems.get(BEFORE, Measurement())
        for name, rows in measured.rows.items():
            if name in metrics and len(rows) == len(measured.predictions):
                for one, score in zip(measured.predictions, example_scores(metrics[name], rows), strict=True):
                    found.setdefault((split, one.id), {})[name] = score
    return found


# ---- tables


def _table(headings: list[str], rows: list[tuple[str, str, str]]) -> Markup:
    """Render a table; return empty markup if it has no rows."""
    return render_table(headings, rows) if rows else Markup()


def _results_table(results: MetricTable) -> Markup:
    """Build the table of results: a row for each metric, and a column for each system.

    The systems are the base model, the tuned model and the data set's baselines. The table is empty markup if there are
    no results.
    """
    rows = result_rows(results)
    if not rows:
        return Markup()
    known = dict.fromkeys(system for systems in results.values() for system in systems)
    others = [system for system in known if system not in (BEFORE, AFTER, DIFFERENCE)]
    headings = ["metric", "", *SYSTEMS, "change", *(f"baseline {system}" for system in others), "examples"]
    cells = []
    for name, before, after, difference in rows:
        count = next((value.count for value in (after, before) if value is not None), None)
        baselines = [format_metric(results[name].get(system)) for system in others]
        cells.append(
            [
                name,
                _drawing(before, after),
                *map(format_metric, (before, after)),
                difference_text(difference),
                *baselines,
                count,
            ]
        )
    return render_table(headings, cells)


def _drawing(before: MetricValue | None, after: MetricValue | None) -> Markup:
    """Draw a metric's values before and after training, with their intervals, on one shared axis.

    Returns:
        The drawing; empty markup if a value is missing, or if the values and the ends of the intervals are all equal or
        not all finite.
    """
    if before is None or after is None:
        return Markup()
    ends = [end for one in (before, after) for end in (one.low, one.value, one.high)]
    low, width = min(ends), max(ends) - min(ends)
    if not all(map(math.isfinite, ends)) or not width:
        return Markup()

    def position(value: float) -> float:
        return round(4 + 92 * (value - low) / width, 1)

    marks = [
        {"name": name, "y": y, **{end: position(getattr(one, end)) for end in ("low", "value", "high")}}
        for name, y, one in (("worse", 6, before), ("best", 14, after))
    ]
    return render_part("intervals", marks, f"{SYSTEMS[0]} {before.value:.2f}, {SYSTEMS[1]} {after.value:.2f}")


def _result_notes(results: MetricTable) -> Iterator[str]:
    """Yield the notes on the results, each with its split and the metrics and systems to which it applies.

    A note that applies to several metrics or systems of a split is yielded once.
    """
    known = dict.fromkeys(system for systems in results.values() for system in systems)
    titles = {system: f"baseline {system}" for system in known} | {BEFORE: SYSTEMS[0], AFTER: SYSTEMS[1]}
    for split in dict.fromkeys(name.partition("/")[0] for name in results):
        for line in note_lines(results, f"{split}/", titles):
            yield f"{split}: {line}"


def _derived(report: RunReport) -> Iterator[tuple[str, str, str]]:
    """Yield, for each config value that the program set itself, a tuple: key, formatted value, and reason."""
    for key, why in report.manifest.derived.items():
        value: Any = report.record.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        yield key, value_text(value), why


def _system(report: RunReport) -> Iterator[tuple[str, str]]:
    manifest = report.manifest
    hardware = manifest.hardware
    yield "status", report.status
    for name, text in (("started", manifest.started), ("ended", manifest.ended)):
        if text:
            yield name, f"{text[:19].replace('T', ' ')} UTC"
    yield from ((COST_NAMES[name], text) for name, text in cost_texts(report))
    if manifest.parameters.get("total"):
        yield "parameters", f"{manifest.parameters['total']:,}"
    yield "operating system", manifest.platform
    yield "Python", manifest.python
    if hardware.get("cpu_model"):
        count = hardware.get("cpu_count_usable", "?")
        yield "processor", f"{hardware['cpu_model']}, {count} usable core{'' if count == 1 else 's'}"
    if hardware.get("memory_bytes"):
        yield "memory", format_bytes(hardware["memory_bytes"])
    yield "GPUs", ", ".join(_gpu_text(gpu) for gpu in hardware.get("gpus") or ()) or "none"
    if manifest.code and manifest.code.get("commit"):
        changes = " with changes" if manifest.code.get("diff_sha256") else ""
        yield "code of instruct_lab", f"commit {manifest.code['commit']}{changes}"
    yield from ((name.replace("_", " "), str(seed)) for name, seed in manifest.seeds.items())
    for name, options in manifest.choices.items():
        yield f"option of {name}", option_text(options)


def _gpu_text(gpu: Any) -> str:
    return str(gpu.get("name", gpu)) if isinstance(gpu, dict) else str(gpu)


def _inputs(report: RunReport) -> Markup:
    found = report.manifest.inputs[:MAX_INPUTS]
    return render_table(["input", "bytes", "SHA-256"], [[one.name, one.bytes, one.sha256] for one in found])
