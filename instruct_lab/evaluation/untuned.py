"""The untuned model's measurement: made once for each model, examples and ways of measuring them, and kept."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from instruct_lab.cache import Entry, Stage, Store, describe
from instruct_lab.data import Conversation
from instruct_lab.evaluation.measure import measure
from instruct_lab.experiment import Experiment
from instruct_lab.records.schema import BEFORE, Measurement, results_from_json, results_to_json
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.shared import weights_digest
from instruct_lab.training.tuned import TunedModel

FILE = "measurement.json"
ROOMS = ("model", "template", "batching", "objective", "generation", "metrics", "evaluation", "training")
"""The code that a measurement depends on."""
LIBRARIES = ("torch", "transformers", "tokenizers", "sacrebleu", "rouge-score", "numpy")
"""Libraries whose version a measurement depends on."""


def untuned(
    experiment: Experiment,
    base: TunedModel,
    data: InstructionData,
    split: str,
    chosen: list[Conversation],
    teacher: Any,
    cache_path: Path,
) -> Measurement:
    """Measure the untuned model, or take what an earlier run measured from the cache.

    The key covers the weights' own bytes, the chosen examples' texts and token ids, how they are answered and scored,
    the code, the libraries, and the machine's threads and device: what is taken is what would be measured.

    Args:
        experiment: the run's configuration.
        base: the untuned model.
        data: the run's data.
        split: where the conversations stand.
        chosen: what is measured on.
        teacher: the other model that the objective needs, if it needs one.
        cache_path: the cache.
    """

    def build(before: Entry | None, folder: Path) -> dict[str, Any]:
        measured = measure(experiment, base.model, base.tokenizer, data, split, chosen, teacher)
        (folder / FILE).write_text(json.dumps(results_to_json({split: {BEFORE: measured}})), encoding="utf-8")
        return {"examples": {split: len(chosen)}}

    stage = Stage("untuned model", _depends_on(experiment, base, data, split, chosen), build)
    entry = Store(cache_path).result([stage])
    return results_from_json(json.loads((entry.path / FILE).read_text(encoding="utf-8")))[split][BEFORE]


def _depends_on(
    experiment: Experiment, base: TunedModel, data: InstructionData, split: str, chosen: list[Conversation]
) -> dict[str, Any]:
    examples = hashlib.sha256()
    for conversation in chosen:
        examples.update(json.dumps(dataclasses.asdict(conversation), sort_keys=True, default=str).encode())
    for example in data.some(split, chosen):
        examples.update(repr((example.input_ids, example.labels, example.rejected)).encode())
    model = experiment.model
    return {
        "weights": base.digest or weights_digest(base.model),
        "model": describe(model),
        "examples": examples.hexdigest(),
        "template": describe(experiment.template),
        "batching": describe(experiment.batching),
        "objective": describe(experiment.objective),
        "generation": describe(experiment.generation),
        "metrics": describe(experiment.active_metrics),
        "trainer": {name: str(value) for name, value in experiment.trainer.arguments.items() if name == "precision"},
        "seed": experiment.seed,
        "code": _code_fingerprint(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "machine": [
            str(next(base.model.parameters()).device),
            torch.get_num_threads(),
            torch.backends.cpu.get_cpu_capability(),
        ],
    }


@functools.cache
def _code_fingerprint() -> str:
    """SHA-256 of the source code that measures."""
    digest, package = hashlib.sha256(), Path(__file__).resolve().parent.parent
    for room in ROOMS:
        for file in sorted((package / room).rglob("*.py")):
            digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
