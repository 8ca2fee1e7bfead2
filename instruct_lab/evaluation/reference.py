"""Log-probabilities of preference pairs under the base model, computed once and stored in the data cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.batch_limits import compute_in_parts
from instruct_lab.batching.table import ExampleTable
from instruct_lab.cache import Entry, Stage, describe
from instruct_lab.evaluation.setup import EvaluationSetup
from instruct_lab.model import LoadedModel
from instruct_lab.progress import advance, stage

if TYPE_CHECKING:
    import numpy


def reference_stage(
    setup: EvaluationSetup, loaded: LoadedModel, cache_path: Path, examples: Mapping[str, ExampleTable]
) -> Stage:
    """Create the stage of data preparation that computes the log-probabilities of the examples under the base model.

    The results are kept in the data cache.
    """
    inputs = [[one.name, one.sha256] for one in setup.model.inputs(cache_path)]
    depends_on = {"model": describe(setup.model), "inputs": inputs}

    def build(before: Entry | None, folder: Path) -> dict[str, Any]:
        import numpy as np

        for split, table in examples.items():
            with stage(f"{split} split", len(table), "pair"):
                np.save(_path(folder, split), _log_probabilities(setup, loaded, table))
        return {"examples": {split: len(table) for split, table in examples.items()}}

    return Stage(
        "reference", depends_on, build, activity="log-probabilities of the preference pairs under the base model"
    )


def read_references(folder: Path, examples: Mapping[str, ExampleTable]) -> dict[str, numpy.ndarray]:
    """Read the log-probabilities of each split, in nats: float64 `[examples, 2]`, with columns chosen and rejected."""
    import numpy as np

    return {split: np.load(_path(folder, split), mmap_mode="r") for split in examples}


def _path(folder: Path, split: str) -> Path:
    return folder / f"reference-{split}.npy"


def _log_probabilities(setup: EvaluationSetup, loaded: LoadedModel, table: ExampleTable) -> numpy.ndarray:
    import numpy as np
    import torch

    from instruct_lab.objective.log_probabilities import sequence_log_probabilities

    batching, device = setup.batching, next(loaded.model.parameters()).device
    found = np.zeros((len(table), 2))

    def compute(indices: Sequence[int]) -> None:
        batch = batching.collate([table[index] for index in indices], loaded.tokenizer.pad_token_id).to(device)
        sums, _ = sequence_log_probabilities(loaded.model, batch)  # [2 * examples]
        found[indices] = sums.double().cpu().numpy().reshape(2, len(indices)).T

    with torch.inference_mode():
        for indices in batching.evaluation_batches(table, setup.scored_tokens(device)):
            compute_in_parts(
                "log-probabilities",
                indices.tolist(),
                compute,
                size=lambda part: 2 * len(part) * int(table.lengths[part].max()),
            )
            advance(len(indices))
    return found
