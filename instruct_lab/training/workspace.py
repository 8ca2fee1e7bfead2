"""Access to a run's tokenizer, its base model, and the tuned model in its record."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.batching.fingerprint import tokenizer_fingerprint
from instruct_lab.cache import Store, describe, worker_processes
from instruct_lab.callbacks.kept_weights import KeptWeights, read_weights
from instruct_lab.data.base import tables
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.files import user_path
from instruct_lab.model import LoadedModel
from instruct_lab.model.digest import weights_digest
from instruct_lab.progress import stage
from instruct_lab.records.schema import CHECKPOINTS
from instruct_lab.training.shared import SharedModels


@dataclasses.dataclass(frozen=True)
class BaseModel:
    """The base model and, if already known, the hash of its weights."""

    loaded: LoadedModel
    known_digest: str | None = None

    def digest(self) -> str:
        """Return the hash of the weights, which is computed if it is not yet known."""
        return self.known_digest or weights_digest(self.loaded.model)


@dataclasses.dataclass(frozen=True)
class TunedModel:
    """A tuned model and the saved weights that it was loaded from."""

    loaded: LoadedModel
    weights: KeptWeights


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Access to the tokenizer and the models of one experiment, which are loaded on demand.

    Args:
        experiment: the components of the run, built from its config.
        device: device of the weights.
        shared: models that earlier runs of this process loaded; `None`: models are read from disk.
    """

    experiment: Experiment
    device: Any = "cpu"
    shared: SharedModels | None = None

    @property
    def cache_path(self) -> Path:
        """The folder for downloads, converted models and cached results."""
        return user_path(self.experiment.cache_path)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer.

        Raises:
            InstructLabError: the tokenizer cannot be loaded, or the data to train it cannot be read.
        """
        with stage("loading the tokenizer"):
            return self._shared_tokenizer()

    def _shared_tokenizer(self) -> Any:
        if self.shared is None:
            return self._load_tokenizer()[0]
        model = self.experiment.model
        files = [dataclasses.astuple(file) for file in model.tokenizer_inputs(self.cache_path)]
        key = json.dumps([describe(model), str(self.cache_path), files], default=str)
        return self.shared.tokenizer(key, self._load_tokenizer)

    def _load_tokenizer(self) -> tuple[Any, bool]:
        """Load the tokenizer; also return whether other runs may use it, which they may not if this run trained it."""
        reads_data = []

        def texts() -> Iterator[str]:
            reads_data.append(True)
            return self._training_texts()

        tokenizer = self.experiment.model.load_tokenizer(self.cache_path, texts)
        return tokenizer, not reads_data

    def _training_texts(self) -> Iterator[str]:
        """Yield all messages of the training split before preprocessing, to train a tokenizer on them.

        Preprocessing may itself need the tokenizer, so preprocessed messages are not used.
        """
        with worker_processes(self.experiment.preprocessing.workers):
            prepared = Store(self.cache_path).result([self.experiment.data.stage(self.cache_path)])
        for conversation in tables(prepared)["train"]:
            for message in (*conversation.messages, *conversation.rejected):
                yield message.content

    def base(self, *, private: bool = True) -> BaseModel:
        """Load the base model, in evaluation mode.

        Args:
            private: whether the caller may change the weights, and therefore needs a copy of shared weights.
        """
        with stage(f"loading the weights of {self.experiment.model.weights.label}"):
            base = self._load_base(private)
            base.loaded.model.to(self.device).eval()
        return base

    def _load_base(self, private: bool = True) -> BaseModel:
        model = self.experiment.model

        def load() -> LoadedModel:
            return model.load(self.tokenizer, self.cache_path, self.experiment.objective.head)

        if self.shared is None or model.is_quantized:
            return BaseModel(load())
        return BaseModel(*self.shared.model(self.base_key(), load, private))

    def base_key(self) -> str:
        """Return a hash of what determines the base weights: model settings, files, tokenizer and output head."""
        model = self.experiment.model
        files = [dataclasses.astuple(file) for file in model.inputs(self.cache_path)]
        parts = [describe(model), files, tokenizer_fingerprint(self.tokenizer), self.experiment.objective.head]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

    def tuned(self, run_path: Path, checkpoint: str | None = None, *, merged: bool = True) -> TunedModel:
        """Load the tuned model of a recorded run, in evaluation mode.

        Args:
            run_path: folder of the run's record.
            checkpoint: the weights to load, `best` or `last`; `None`: those that `evaluation.checkpoint` names.
            merged: whether to merge an adapter into the base weights if possible; only an adapter that is not merged
                can be disabled.
        """
        weights = evaluated_weights(self.experiment, run_path, checkpoint)
        tuning = self.experiment.tuning
        with stage(f"loading the tuned model ({weights})"):
            base = self._load_base().loaded
            base.model.eval()
            loaded = tuning.load(base, weights.path)
            if merged and tuning.mergeable:
                loaded = tuning.merge(loaded)
            loaded.model.to(self.device).eval()
        return TunedModel(loaded, weights)


def evaluated_weights(experiment: Experiment, run_path: Path, checkpoint: str | None = None) -> KeptWeights:
    """Find the saved weights of a run that are to be evaluated.

    If `checkpoint` is `None` and the run has saved no best weights, the last weights are returned.

    Args:
        experiment: the components of the run, built from its config.
        run_path: folder of the run's record.
        checkpoint: `best` or `last`; `None`: the value of `evaluation.checkpoint`.

    Raises:
        InstructLabError: the run has no such weights.
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
    return found
