"""Measure the loss of quality by an export: evaluate it and the tuned model on the same held-out examples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from instruct_lab.data import Audit
from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation.measure import measure
from instruct_lab.export.export import Export
from instruct_lab.export.formats import ONE_FILE
from instruct_lab.export.front_matter import CARD
from instruct_lab.files import append_text
from instruct_lab.metrics import MetricValue
from instruct_lab.metrics.intervals import paired_difference, summarize
from instruct_lab.model import LoadedModel
from instruct_lab.model.weights.gguf import read_model
from instruct_lab.model.weights.gguf_header import unread_part
from instruct_lab.model.weights.gguf_tokenizer import read_tokenizer
from instruct_lab.pages.format import format_interval, markdown_table
from instruct_lab.records import Measurement
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.workspace import Workspace

NUM_DIGITS = 4


@dataclasses.dataclass(frozen=True)
class Loss:
    """The loss of quality that an export causes, measured on one split.

    Args:
        split: the split of the examples.
        count: number of examples.
        num_equal: number of examples for which the export gives the same answer as the tuned model; `None` if no metric
            reads answers.
        metrics: for each metric a tuple: the tuned model's value, the export's value, and their paired difference.
    """

    split: str
    count: int
    num_equal: int | None
    metrics: dict[str, tuple[MetricValue, MetricValue, MetricValue]]

    def to_markdown(self) -> str:
        """Return the loss as a Markdown table of metrics, below a line with the number of equal answers."""
        lines = [f"{self.split}: {self.count} held-out examples, differences with 95% paired bootstrap intervals"]
        if self.num_equal is not None:
            lines.append(f"equal answers: {self.num_equal} of {self.count}")
        rows = [[name, _number(a.value), _number(b.value), _interval(d)] for name, (a, b, d) in self.metrics.items()]
        table = markdown_table(["metric", "tuned model", "export", "export - tuned model"], rows)
        return "\n".join(lines) + "\n\n" + table


def measure_loss(job: Export, max_examples: int | None = None) -> Loss:
    """Evaluate the written export and the tuned model on the same examples, and add the result to the model card.

    If an adapter was exported, the tuned model is the base model with the adapter. Otherwise, any adapter has been
    merged into the model.

    Args:
        job: the export, which has been written.
        max_examples: maximum number of examples, at least 1; `None`: as many as the run's evaluation used.

    Returns:
        The loss on the test split or, if it has no examples, on another split that the run evaluates.

    Raises:
        InstructLabError: the export cannot be loaded, or there are no held-out examples.
    """
    experiment = job.experiment
    workspace = Workspace(experiment)
    data = InstructionData(experiment, workspace.tokenizer, workspace.cache_path, Audit())
    split = next((one for one in ("test", *experiment.evaluation.splits) if data.examples.get(one)), None)
    if split is None:
        what = "The run has no held-out examples on which the export could be measured"
        raise InstructLabError(what, where="evaluation.splits", do="leave out --measure")
    examples = data.evaluated_examples(split, max_examples or experiment.evaluation.max_examples)
    examples = data.with_prompts(examples, experiment.tuning)
    setup = experiment.evaluation_setup
    teacher = experiment.objective.load_teacher(workspace.tokenizer, workspace.cache_path, workspace.device)
    tuned = job.load().loaded
    before = measure(setup, tuned, examples, teacher)
    after = measure(setup, load_export(job, tuned), examples, teacher)
    loss = compare(setup.for_references(examples.references).metrics, split, before, after)
    append_text(job.path / CARD, f"\n## Loss of quality by this export\n\n{loss.to_markdown()}\n")
    return loss


def compare(metrics: Any, split: str, before: Measurement, after: Measurement) -> Loss:
    """Compare the measurements of the tuned model and of its export on the same examples.

    Args:
        metrics: the metrics, keyed by name.
        split: the split of the examples.
        before: the results of the tuned model.
        after: the results of the export.
    """
    found = {}
    for name, rows in after.rows.items():
        if rows:
            metric, earlier = metrics[name], before.rows[name]
            clusters = after.clusters_of(rows)
            values = summarize(metric, earlier, clusters=clusters), summarize(metric, rows, clusters=clusters)
            found[name] = (*values, paired_difference(metric, earlier, rows, clusters=clusters))
    pairs = list(zip(before.predictions, after.predictions, strict=True))
    num_equal = sum(a.text == b.text for a, b in pairs) if pairs else None
    return Loss(split, max([len(pairs), *map(len, after.rows.values())]), num_equal, found)


def load_export(job: Export, tuned: LoadedModel) -> LoadedModel:
    """Load an exported model and its tokenizer onto the CPU, with the library that a user of the export would use.

    Args:
        job: the export, which has been written.
        tuned: the model from which it was written.

    Raises:
        InstructLabError: the export is a GGUF file of which transformers does not read every part.
    """
    if job.form in ONE_FILE:
        return _load_gguf(job, tuned)
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(job.path)
    auto_class = job.experiment.model.auto_class
    arguments: dict[str, Any] = {"dtype": tuned.model.dtype}
    if job.experiment.objective.head == "score":
        auto_class, arguments = "AutoModelForSequenceClassification", {**arguments, "num_labels": 1}
    model: Any
    if job.is_adapter:
        model = _load_adapter(job.path, getattr(transformers, auto_class), arguments, len(tokenizer))
    else:
        model = getattr(transformers, auto_class).from_pretrained(job.path, **arguments)
    return dataclasses.replace(tuned, model=model.eval(), tokenizer=tokenizer)


def _load_gguf(job: Export, tuned: LoadedModel) -> LoadedModel:
    file = job.path / job.model_file
    if part := unread_part(file):
        raise InstructLabError(
            f"The export cannot be measured: transformers does not read the file's {part}",
            where=str(file),
            do="leave out --measure; llama.cpp reads them",
        )
    model = read_model(file, file.name).eval()
    return dataclasses.replace(tuned, model=model, tokenizer=read_tokenizer(file, file.name))


def _load_adapter(folder: Path, auto_class: Any, arguments: dict[str, Any], num_tokens: int) -> Any:
    from peft import PeftConfig, PeftModel

    config = PeftConfig.from_pretrained(str(folder))
    base = auto_class.from_pretrained(config.base_model_name_or_path, revision=config.revision, **arguments)
    if num_tokens > base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(num_tokens)
    return PeftModel.from_pretrained(base, str(folder))


def _number(value: float) -> str:
    return f"{value:.{NUM_DIGITS}f}"


def _interval(value: MetricValue) -> str:
    return format_interval(value.value, value.low, value.high, digits=NUM_DIGITS, signed=True)
