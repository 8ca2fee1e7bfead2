"""The model card of an exported model: its data, configuration, metrics and versions."""

from __future__ import annotations

from typing import Any

import yaml

from instruct_lab.evaluation.result import HEADINGS
from instruct_lab.pages.format import format_metric, markdown_table
from instruct_lab.records import Manifest, RunRecord, Summary
from instruct_lab.records.schema import DIFFERENCE, InputEntry


def model_card(config: dict[str, Any], record: RunRecord, step: int, library: str, use: str) -> str:
    """Write the model card as Markdown, with the front matter that model hubs read.

    Args:
        config: the run's configuration as plain containers.
        record: the run.
        step: the optimizer step of the exported weights.
        library: the library that loads the export, as model hubs name it.
        use: the section about how to use the exported model, from `usage`.
    """
    manifest = record.manifest
    choices = manifest.choices
    front = {"library_name": library, "pipeline_tag": "text-generation"}
    sections = [
        f"---\n{yaml.safe_dump(front)}---",
        f"# {record.name}",
        f"{choices.get('model', 'A model')} tuned with {choices.get('tuning', 'the config below')} on "
        f"{choices.get('data', 'the data below')}; run `{record.id}`, weights of optimizer step {step}.",
        "## Use\n\n" + use,
        "## Data\n\n" + _inputs(manifest.inputs),
        "## Metrics\n\n95% bootstrap intervals over held-out examples.\n\n" + _metrics(record.summary or Summary()),
        "## Configuration\n\n```yaml\n" + yaml.safe_dump(config, sort_keys=False, allow_unicode=True) + "```",
        "## Versions\n\n" + _versions(manifest),
    ]
    return "\n\n".join(sections) + "\n"


def _inputs(inputs: list[InputEntry]) -> str:
    rows = ([entry.name, f"{entry.bytes:,}", f"`{entry.sha256}`"] for entry in inputs)
    return markdown_table(["input", "bytes", "SHA-256"], rows)


def _metrics(summary: Summary) -> str:
    metrics = summary.metrics
    if not metrics:
        return "The run was not evaluated."
    systems = list(dict.fromkeys(s for values in metrics.values() for s in values if s != DIFFERENCE))
    rows = ([name, *(format_metric(values.get(system)) for system in systems)] for name, values in metrics.items())
    return markdown_table(["metric", *(HEADINGS.get(system, system) for system in systems)], rows)


def _versions(manifest: Manifest) -> str:
    versions = {"python": manifest.python, **manifest.packages}
    return markdown_table(["package", "version"], ([name, version] for name, version in versions.items() if version))
