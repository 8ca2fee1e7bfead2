"""Evaluate the base model before training, or read its results from the cache."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from instruct_lab.cache import Entry, Stage, Store, describe
from instruct_lab.evaluation.benchmarks import measure_benchmarks
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
CODE = (".py", ".yaml", ".jsonl")
"""Suffixes of the files in `PACKAGES` that can change results: code, tasks of benchmarks, and evaluated texts."""
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
    scoring, the code, the libraries, the device, and the numbers of threads and ranks. Another run may have the same
    examples under other names of the split and of the data sources. So these names are left out of the key, and the
    returned measurement has the names of `examples`.

    Args:
        setup: the settings of the evaluation.
        loaded: the base model.
        digest: hash of the base model's weights.
        examples: the examples to evaluate on.
        teacher: the second model that some objectives need, loaded by `Objective.load_teacher`; `None` for others.
        cache_path: folder of the cache.
    """
    found = Measurement.from_json(
        _stored(
            _depends_on(setup, loaded, digest, examples),
            lambda: measure(setup, loaded, examples, teacher).to_json(),
            f"evaluating the base model on the {examples.split} split",
            cache_path,
        )
    )
    predictions = [dataclasses.replace(one, split=examples.split) for one in found.predictions]
    return Measurement(predictions, found.rows, examples.sources, list(examples.clusters))


def measure_base_benchmarks(
    setup: EvaluationSetup, loaded: LoadedModel, digest: str, cache_path: Path
) -> dict[str, Measurement]:
    """Measure the base model on the tasks of all benchmarks, or read the results of an earlier run from the cache.

    Args:
        setup: the settings of the evaluation.
        loaded: the base model.
        digest: hash of the base model's weights.
        cache_path: folder of the cache.

    Returns:
        The measurements, keyed by the name of the task.
    """
    if not setup.benchmarks:
        return {}
    depends_on = {
        **_depends_on_model(setup, loaded, digest),
        "benchmarks": [[describe(one), one.fingerprint()] for one in setup.benchmarks.values()],
    }
    found = _stored(
        depends_on,
        lambda: {name: one.to_json() for name, one in measure_benchmarks(setup, loaded)},
        "evaluating the base model on benchmarks",
        cache_path,
    )
    return {name: Measurement.from_json(one) for name, one in found.items()}


def _stored(depends_on: dict[str, Any], compute: Callable[[], dict[str, Any]], activity: str, cache_path: Path) -> Any:
    """Return results from the cache; if the first rank does not find them there, compute them on all ranks.

    Args:
        depends_on: everything that can change the results; the key in the cache is computed from it.
        compute: function that computes the results, as an object that JSON can express.
        activity: description of the work, which is shown with its progress.
        cache_path: folder of the cache.
    """
    computed: list[bool] = []

    def build(before: Entry | None, folder: Path) -> dict[str, Any]:
        first_rank_value(True)  # not cached, so the other ranks compute their shares too
        computed.append(True)
        (folder / FILE).write_text(json.dumps(compute()), encoding="utf-8")
        return {}

    if not is_first_rank() and first_rank_value(False):
        return compute()
    entry = Store(cache_path).result([Stage("base model", depends_on, build, activity=activity)])
    if is_first_rank() and not computed:
        first_rank_value(False)
    return json.loads((entry.path / FILE).read_text(encoding="utf-8"))


def _depends_on(
    setup: EvaluationSetup, loaded: LoadedModel, digest: str, examples: EvaluatedExamples
) -> dict[str, Any]:
    content = hashlib.sha256()
    for conversation in examples.conversations:
        fields = dataclasses.asdict(dataclasses.replace(conversation, source=""))
        content.update(json.dumps(fields, sort_keys=True, default=str).encode())
    for example in examples.examples:
        content.update(repr(dataclasses.replace(example, source="", reference=None)).encode())
    return {
        **_depends_on_model(setup, loaded, digest),
        "examples": content.hexdigest(),
        "batching": describe(setup.batching, NOT_SCIENCE_BATCHING),
        "objective": describe(setup.objective),
        "generation": describe(setup.generation),
        "metrics": describe(
            {name: one for name, one in setup.metrics.items() if not isinstance(one, ComparisonMetric)}
        ),
        "is_compared": any(isinstance(one, ComparisonMetric) for one in setup.metrics.values()),
        "seed": setup.seed,
        "batch_tokens": setup.batch_tokens or [scored_tokens(_device(loaded)), decoded_tokens(loaded.model)],
    }


def _depends_on_model(setup: EvaluationSetup, loaded: LoadedModel, digest: str) -> dict[str, Any]:
    """Return the part of the cache key that describes the model, the code, the libraries and the machine."""
    return {
        "weights": digest,
        "model": describe(setup.model),
        "template": describe(setup.template),
        "precision": setup.precision,
        "code": _code_fingerprint(),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "machine": [
            str(_device(loaded)),
            torch.get_num_threads(),
            torch.backends.cpu.get_cpu_capability(),
            num_ranks(),
        ],
    }


def _device(loaded: LoadedModel) -> torch.device:
    return next(loaded.model.parameters()).device


@functools.cache
def _code_fingerprint() -> str:
    """Compute the SHA-256 of those files of instruct_lab (code and data) that can change an evaluation's results."""
    digest, package = hashlib.sha256(), Path(__file__).resolve().parent.parent
    for folder in PACKAGES:
        for file in sorted(one for one in (package / folder).rglob("*") if one.suffix in CODE):
            digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
