"""Tokenizers and base models that several runs in one process share."""

from __future__ import annotations

import copy
import dataclasses
import gc
import logging
from collections.abc import Callable
from typing import Any

import torch

from instruct_lab.batching.fingerprint import tokenizer_fingerprint
from instruct_lab.model import LoadedModel
from instruct_lab.model.digest import weights_digest

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Kept:
    value: Any
    digest: str


class SharedModels:
    """Tokenizers and base models that are loaded once for several runs in one process.

    Each run gets its own model object. If the run does not change the base model's weights, this object uses the shared
    tensors; otherwise it gets copies. Before each use, the shared weights are checked against their hash, so that no
    run starts from weights that another run has changed. One model and one tokenizer are kept at a time, on the CPU.
    """

    def __init__(self) -> None:
        self._tokenizers: dict[str, _Kept] = {}
        self._models: dict[str, _Kept] = {}
        self._ended_one = False

    def end_run(self) -> None:
        """Free the memory of an ended run with Python's garbage collector.

        This is needed because the run's model and trainer refer to each other. The first run also loads libraries.
        After it, all objects that are still alive, most of which belong to libraries, are excluded from later garbage
        collections.
        """
        if not self._ended_one:
            gc.unfreeze()
        gc.collect()
        if not self._ended_one:
            gc.freeze()
        self._ended_one = True

    def tokenizer(self, key: str, load: Callable[[], tuple[Any, bool]]) -> Any:
        """Return the tokenizer that is kept under a key; if there is none, load it.

        Args:
            key: text that identifies the tokenizer.
            load: function that loads the tokenizer; it returns the tokenizer, and whether later runs may use it.
        """
        kept = self._unchanged(self._tokenizers, key, tokenizer_fingerprint)
        if kept is not None:
            return kept.value
        tokenizer, can_share = load()
        if can_share:
            self._tokenizers = {key: _Kept(tokenizer, tokenizer_fingerprint(tokenizer))}
        return tokenizer

    def model(self, key: str, load: Callable[[], LoadedModel], private: bool) -> tuple[LoadedModel, str]:
        """Return a new object of the model that is kept under a key, and the hash of the weights.

        If there is no such model, it is loaded first.

        Args:
            key: text that identifies the weights.
            load: function that loads the model.
            private: whether the caller may change the weights; the new object then has a copy of them.
        """
        kept = self._unchanged(self._models, key, lambda loaded: weights_digest(loaded.model))
        if kept is None:
            self._models.clear()  # to free its memory before the next model is loaded
            loaded = load()
            kept = self._models[key] = _Kept(loaded, weights_digest(loaded.model))
        return _copied(kept.value, private), kept.digest

    def clear(self) -> None:
        """Drop the models and tokenizers that are in memory."""
        gc.unfreeze()
        self._tokenizers.clear()
        self._models.clear()

    def _unchanged(self, kept: dict[str, _Kept], key: str, digest: Callable[[Any], str]) -> _Kept | None:
        """Return the object that is kept under a key; if there is none or a run has changed it, return `None`.

        Args:
            kept: the kept objects with their hashes.
            key: the key of the wanted object.
            digest: function that computes the hash of an object.
        """
        found = kept.get(key)
        if found is not None and digest(found.value) != found.digest:
            logger.warning("A run has changed a model or tokenizer that runs share; it is loaded again.")
            del kept[key]
            return None
        return found


def _copied(loaded: LoadedModel, private: bool) -> LoadedModel:
    """Copy a model's modules; the copy shares the parameter tensors, or has copies of them if `private` is true."""
    memo: dict[int, Any] = {}
    if not private:
        for parameter in loaded.model.parameters():
            memo[id(parameter)] = torch.nn.Parameter(parameter.data, requires_grad=parameter.requires_grad)
    return loaded.with_model(copy.deepcopy(loaded.model, memo))
