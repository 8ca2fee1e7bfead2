"""Tokenizers and base weights that the runs of one process share."""

from __future__ import annotations

import copy
import dataclasses
import gc
import hashlib
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import xxhash

from instruct_lab.batching.fingerprint import tokenizer_fingerprint
from instruct_lab.cache import describe
from instruct_lab.experiment import Experiment
from instruct_lab.model import LoadedModel

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Kept:
    value: Any
    digest: str


class SharedModels:
    """Tokenizers and untuned models, loaded once and given out again and again.

    What is given out of a model is one of its own, with the kept tensors where the caller leaves them alone and with
    copies where not. Before each use what is kept is compared with its hash: a run can never start from what another
    one changed. One model and one tokenizer are kept at a time, on the CPU.
    """

    def __init__(self) -> None:
        self._tokenizers: dict[str, _Kept] = {}
        self._models: dict[str, _Kept] = {}
        self._ended_one = False

    @classmethod
    def of_process(cls) -> SharedModels:
        """For a process that makes one run after the other: the libraries are shared too.

        The garbage collector leaves their objects alone from now on: `end_run` would look through a million of them.
        """
        import instruct_lab.training.run  # noqa: F401

        gc.freeze()
        return cls()

    def end_run(self) -> None:
        """Free what a run leaves behind: its model and its trainer refer to each other, and wait for the collector.

        The first run has loaded more libraries, which the collector leaves alone from then on too.
        """
        gc.collect()
        if not self._ended_one:
            gc.freeze()
        self._ended_one = True

    def tokenizer(self, key: str, load: Callable[[], tuple[Any, bool]]) -> Any:
        """The tokenizer of a key.

        Args:
            key: covers all that decides it.
            load: makes it, where it is not kept yet, and says whether later runs may take it.
        """
        kept = self._unchanged(self._tokenizers, key, tokenizer_fingerprint)
        if kept is not None:
            return kept.value
        tokenizer, lasts = load()
        if lasts:
            self._tokenizers = {key: _Kept(tokenizer, tokenizer_fingerprint(tokenizer))}
        return tokenizer

    def model(self, key: str, load: Callable[[], LoadedModel], private: bool) -> tuple[LoadedModel, str]:
        """The model of a key, and the digest of its weights.

        Args:
            key: covers all that decides its weights.
            load: reads it, where it is not kept yet.
            private: whether the caller may change the weights.
        """
        kept = self._unchanged(self._models, key, lambda loaded: weights_digest(loaded.model))
        if kept is None:
            self._models.clear()  # before the next one takes its memory
            loaded = load()
            kept = self._models[key] = _Kept(loaded, weights_digest(loaded.model))
        return _copied(kept.value, private), kept.digest

    def clear(self) -> None:
        """Let everything go."""
        gc.unfreeze()
        self._tokenizers.clear()
        self._models.clear()

    def _unchanged(self, kept: dict[str, _Kept], key: str, digest: Callable[[Any], str]) -> _Kept | None:
        """What is kept under a key, where it still has its hash."""
        found = kept.get(key)
        if found is not None and digest(found.value) != found.digest:
            logger.warning("A run changed the model that runs share; it is read again.")
            del kept[key]
            return None
        return found


def model_key(experiment: Experiment, tokenizer: Any, cache_path: Path) -> str:
    """What decides the untuned weights: the model's settings, its files' content, its tokenizer and its head."""
    files = [dataclasses.astuple(file) for file in experiment.model.inputs(cache_path)]
    parts = [describe(experiment.model), files, tokenizer_fingerprint(tokenizer), experiment.objective.head]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def weights_digest(model: Any) -> str:
    """A hash over the names, types, shapes and bytes of every parameter and buffer."""
    named = [*model.named_parameters(), *model.named_buffers()]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # hashing lets other threads run
        contents = threads.map(_content_digest, [tensor for _, tensor in named])
        digest = xxhash.xxh3_128()
        for (name, tensor), content in zip(named, contents, strict=True):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:{tensor.requires_grad};".encode() + content)
    return digest.hexdigest()


def _content_digest(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return xxhash.xxh3_128(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"").digest()  # type: ignore[arg-type]


def _copied(loaded: LoadedModel, private: bool) -> LoadedModel:
    """A copy of a model's modules around the same parameters, or around copies of them."""
    memo: dict[int, Any] = {}
    if not private:
        for parameter in loaded.model.parameters():
            memo[id(parameter)] = torch.nn.Parameter(parameter.data, requires_grad=parameter.requires_grad)
    return loaded.with_model(copy.deepcopy(loaded.model, memo))
