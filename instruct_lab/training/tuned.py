"""The tuned model of a run: loaded again from its record, as everything after training does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from instruct_lab.callbacks.kept_weights import read_weights
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.model import LoadedModel
from instruct_lab.records.schema import CHECKPOINTS
from instruct_lab.training.shared import SharedModels, model_key
from instruct_lab.training.tokenizer import load_tokenizer


@dataclasses.dataclass(frozen=True)
class TunedModel:
    """A model ready to answer, and the step its weights are from (None: the untuned model).

    `digest`: the hash of its weights, if it is known.
    """

    loaded: LoadedModel
    step: int | None
    digest: str | None = None

    @property
    def model(self) -> Any:
        """The model of transformers."""
        return self.loaded.model

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.loaded.tokenizer


def chosen_weights(experiment: Experiment, run_path: Path, checkpoint: str | None = None) -> tuple[Path, int]:
    """The folder of the weights that the run is measured by, and their step.

    Where no best weights were kept (no validation, no monitor), the last are taken.

    Raises:
        InstructLabError: the run has no weights yet.
    """
    folder = run_path / CHECKPOINTS
    wanted = checkpoint or experiment.evaluation.checkpoint
    found = read_weights(folder, wanted)
    if found is None and checkpoint is None:
        found = read_weights(folder, "last")
    if found is None:
        raise InstructLabError(
            f"The run has no {wanted} weights",
            where=str(folder),
            do=f"finish it first with `instruct-lab resume {run_path}`, or choose another run",
        )
    path, facts = found
    return path, int(facts["step"])


def load_base(
    experiment: Experiment,
    cache_path: Path,
    device: Any = "cpu",
    shared: SharedModels | None = None,
    private: bool = True,
    tokenizer: Any = None,
) -> TunedModel:
    """The untuned model.

    Args:
        experiment: the run's configuration.
        cache_path: folder for what is downloaded or converted.
        device: where the weights are put.
        shared: weights that earlier runs of this process loaded; none: they are read anew.
        private: whether the caller may change the weights.
        tokenizer: the run's own, where it is there already.
    """
    tokenizer = load_tokenizer(experiment, cache_path, shared) if tokenizer is None else tokenizer

    def load() -> LoadedModel:
        return experiment.model.load(tokenizer, cache_path, experiment.objective.head)

    if shared is None or experiment.model.is_quantized:
        loaded, digest = load(), None
    else:
        loaded, digest = shared.model(model_key(experiment, tokenizer, cache_path), load, private)
    loaded.model.to(device).eval()
    return TunedModel(loaded, None, digest)


def load_adapted(
    experiment: Experiment,
    run_path: Path,
    cache_path: Path,
    checkpoint: str | None = None,
    device: Any = "cpu",
    shared: SharedModels | None = None,
    tokenizer: Any = None,
) -> TunedModel:
    """The untuned model with what the run trained read into it, not merged.

    Args:
        experiment: the run's configuration.
        run_path: its record.
        cache_path: folder for what is downloaded or converted.
        checkpoint: `best`, `last`, or none for those the run is measured by.
        device: where the weights are put.
        shared: what earlier runs of this process loaded; none: it is read anew.
        tokenizer: the run's own, where it is there already.
    """
    path, step = chosen_weights(experiment, run_path, checkpoint)
    base = load_base(experiment, cache_path, shared=shared, tokenizer=tokenizer)
    loaded = experiment.tuning.load(base.loaded, path)
    loaded.model.to(device).eval()
    return TunedModel(loaded, step)


def load_tuned(
    experiment: Experiment,
    run_path: Path,
    cache_path: Path,
    checkpoint: str | None = None,
    device: Any = "cpu",
    shared: SharedModels | None = None,
    tokenizer: Any = None,
) -> TunedModel:
    """The tuned model, as a plain one where its method can be merged: what is measured, used and exported is this.

    Args: those of `load_adapted`.
    """
    adapted = load_adapted(experiment, run_path, cache_path, checkpoint, shared=shared, tokenizer=tokenizer)
    loaded = experiment.tuning.merge(adapted.loaded) if experiment.tuning.mergeable else adapted.loaded
    loaded.model.to(device).eval()
    return TunedModel(loaded, adapted.step)
