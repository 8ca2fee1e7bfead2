"""The model card of an exported model: its use, data, results, examples and hyperparameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.evaluation.result import HEADINGS
from instruct_lab.export.evaluated import Evaluated
from instruct_lab.pages.format import format_metric, markdown_table, shorten
from instruct_lab.records import RunRecord, Summary
from instruct_lab.records.schema import DIFFERENCE, InputEntry, PredictionLine

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData


NUM_EXAMPLES = 3
MAX_CHARACTERS = 300
"""Maximum number of characters of a prompt, answer, reference or setting in the card's tables."""
GROUPS = ("seed", "tuning", "objective", "optimizer", "lr_scheduler", "batching", "trainer", "generation")
"""Top-level keys of the config that the card lists as hyperparameters."""


def model_card(
    config: dict[str, Any],
    record: RunRecord,
    step: int,
    front: ModelCardData,
    use: str,
    evaluations: Sequence[Evaluated] = (),
) -> str:
    """Write the model card as Markdown, with the front matter that model hubs read.

    Args:
        config: the run's configuration as nested dictionaries and lists.
        record: the run's record.
        step: the optimizer step of the exported weights.
        front: the front matter.
        use: the text of the section about how to use the exported model.
        evaluations: evaluations of the exported weights that were made after the run.
    """
    manifest = record.manifest
    choices = manifest.choices
    sections = [
        f"---\n{front.to_yaml()}\n---",
        f"# {record.name}",
        f"{choices.get('model', 'A model')} tuned with {choices.get('tuning', 'the config below')} on "
        f"{choices.get('data', 'the data below')}; run `{record.id}`, weights of optimizer step {step}.",
        "## Use\n\n" + use,
        "## Data\n\n" + _inputs(manifest.inputs),
        "## Metrics\n\n" + _metrics(record.summary or Summary(), manifest.evaluated_step, step),
        *(_evaluation(one) for one in evaluations),
        "## Examples\n\n" + _examples(record.read_predictions()),
        "## Hyperparameters\n\nThe whole configuration is in `instruct_lab_config.json`, and the versions of packages "
        "are in `instruct_lab_versions.json`.\n\n" + _hyperparameters(config),
    ]
    return "\n\n".join(sections) + "\n"


def _inputs(inputs: list[InputEntry]) -> str:
    rows = ([entry.name, f"{entry.bytes:,}", f"`{entry.sha256}`"] for entry in inputs)
    return markdown_table(["input", "bytes", "SHA-256"], rows)


def _metrics(summary: Summary, evaluated_step: int | None, step: int) -> str:
    if not summary.metrics:
        return "The run was not evaluated."
    text = "95% bootstrap intervals over held-out examples."
    if evaluated_step not in (None, step):
        text += f" They are of the weights of optimizer step {evaluated_step}, not of the exported ones."
    return f"{text}\n\n{_table(summary)}"


def _evaluation(evaluated: Evaluated) -> str:
    chosen = " ".join(f"`{text}`" for text in evaluated.origin.overrides)
    text = f"Measured after the run{f', with {chosen}' if chosen else ''}. 95% bootstrap intervals."
    return f"### Evaluation {evaluated.name}\n\n{text}\n\n{_table(evaluated.summary)}"


def _table(summary: Summary) -> str:
    metrics = summary.metrics
    systems = list(dict.fromkeys(s for values in metrics.values() for s in values if s != DIFFERENCE))
    rows = ([name, *(format_metric(values.get(system)) for system in systems)] for name, values in metrics.items())
    return markdown_table(["metric", *(HEADINGS.get(system, system) for system in systems)], rows)


def _examples(lines: list[PredictionLine]) -> str:
    if not lines:
        return "The run wrote no answers."
    rows = [
        [shorten(text, MAX_CHARACTERS) for text in (line.prompt, line.prediction, (line.references or [""])[0])]
        for line in lines[:NUM_EXAMPLES]
    ]
    return f"The first held-out examples ({lines[0].split}).\n\n" + markdown_table(
        ["prompt", "answer", "reference"], rows
    )


def _hyperparameters(config: dict[str, Any]) -> str:
    rows = [(key, value) for group in GROUPS if group in config for key, value in _flatten(group, config[group])]
    return markdown_table(["key", "value"], rows)


def _flatten(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the full key and the text of each config value below `key` that is not null.

    The name of a class, such as `tuning._target_`, gets the key of its component: `tuning`.
    """
    if not isinstance(value, dict):
        if value is not None:
            yield key, shorten(str(value), MAX_CHARACTERS)
        return
    for name, entry in value.items():
        yield from _flatten(key if name == "_target_" else f"{key}.{name}", entry)
