"""Evaluate the base model before training, or read its results from the cache."""

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
from instruct_lab.evaluation.examples import EvaluatedExamples
from instruct_lab.evaluation.measure import measure
from instruct_lab.evaluation.ranks import first_rank_value, is_first_rank, num_ranks
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.metrics import ComparisonMetric
from instruct_lab.model import LoadedModel
from instruct_lab.model.token_budget import decoded_tokens, scored_tokens
from instruct_lab.records.identity import NOT_SCIENCE_BATCHING
from instruct_lab.records.measurement import Measurement

FILE = "measurement.json"
PACKAGES = ("model", "template", "batching", "objective", "generation", "metrics", "evaluation")
"""Packages whose code an evaluation depends on."""
LIBRARIES = ("torch", "transformers", "tokenizers", "sacrebleu", "rouge-score", "numpy")
"""Libraries whose versions an evaluation depends on."""


def measure_base_model(
    setup: EvaluationSetup,
    loaded: LoadedModel,
    digest: str,
    examples: EvaluatedExamples,
    teacher: Any,
    cache_path: Path,
) -> Measurement:
    """Evaluate the base model, or read the results of an earlier run from the cache.

    The cache key covers everything that can change a result: the weights, the examples, the settings of decoding and
    scoring, the code, the libraries, the device, and the numbers of threads and ranks. The name of the split and the
    names of the data sources are neither part of the key nor taken from the cached results, because they may differ
    between runs with the same examples.

    Args:
        setup: the settings of the evaluation.
        loaded: the base model.
        digest: hash of its weights.
        examples: the examples to evaluate on.
        teacher: the second model that some objectives need, from `Objective.load_teacher`; else `None`.
        cache_path: folder of the cache.
    """
    measured: list[Measurement] = []

    def build(before: Entry | None, folder: Path) -> dict[str, Any]:
        first_rank_value(True)  # not cached, so the other ranks evaluate their shares too
        measured.append(measure(setup, loaded, examples, teacher))
        (folder / FILE).write_text(json.dumps(measured[0].to_json()), encoding="utf-8")
        return {"examples": len(examples)}

    depends_on = _depends_on(setup, loaded, digest, examples)
    if not is_first_rank() and first_rank_value(False):
        return measure(setup, loaded, examples, teacher)
    entry = Store(cache_path).result(
        [Stage("base model", depends_on, build, activity=f"evaluating the base model on the {examples.split} split")]
    )
    if is_first_rank() and not measured:
        first_rank_value(False)
    found = Measurement.from_json(json.loads((entry.path / FILE).read_text(encoding="utf-8")))
    predictions = [dataclasses.replace(one, split=examples.split) for one in found.predictions]
    return Measurement(predictions, found.rows, examples.sources, list(examples.clusters))


def _depends_on(
    setup: EvaluationSetup, loaded: LoadedModel, digest: str, examples: EvaluatedExamples
) -> dict[str, Any]:
    content, device = hashlib.sha256(), next(loaded.model.parameters()).device
    for conversation in examples.conversations:
        fields = dataclasses.asdict(dataclasses.replace(conversation, source=""))
        content.update(json.dumps(fields, sort_keys=True, default=str).encode())
    for example in examples.examples:
        content.update(repr(dataclasses.replace(example, source="", reference=None)).encode())
    return {
        "weights": digest,
        "model": describe(setup.model),
        "examples": content.hexdigest(),
        "template": describe(setup.template),
        "batching": describe(setup.batching, NOT_SCIENCE_BATCHING),
        "objective": describe(setup.objective),
        "generation": describe(setup.generation),
        "metrics": describe(
            {name: one for name, one in setup.metrics.items() if not isinstance(one, ComparisonMetric)}
        ),
        "is_compared": any(isinstance(one, ComparisonMetric) for one in setup.metrics.values()),
        "precision": setup.precision,
        "seed": setup.seed,
        "batch_tokens": setup.batch_tokens or [scored_tokens(device), decoded_tokens(loaded.model)],
        "code": _code_fingerprint(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "machine": [
            str(device),
            torch.get_num_threads(),
            torch.backends.cpu.get_cpu_capability(),
            num_ranks(),
        ],
    }


@functools.cache
def _code_fingerprint() -> str:
    """Compute the SHA-256 of the source code that an evaluation depends on."""
    digest, package = hashlib.sha256(), Path(__file__).resolve().parent.parent
    for folder in PACKAGES:
        for file in sorted((package / folder).rglob("*.py")):
            digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
