"""Base weights that the runs of one process share."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

import torch
import xxhash

from instruct_lab.batching.encoding import tokenizer_fingerprint
from instruct_lab.data.store import described
from instruct_lab.experiment import Experiment

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Kept:
    model: Any
    digest: str


class SharedModels:
    """Untuned models, loaded once and given out again and again.

    What is given out is a model of its own, with the kept tensors where the caller leaves them alone and with copies
    where not. Before each use the kept weights are compared with their hash: a run can never start from what another
    one trained. One model is kept at a time.
    """

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def model(self, key: str, load: Callable[[], Any], private: bool) -> Any:
        """The model of a key.

        Args:
            key: covers all that decides its weights.
            load: reads it, where it is not kept yet.
            private: whether the caller may change the weights.
        """
        kept = self._kept.get(key)
        if kept is not None and weights_digest(kept.model) != kept.digest:
            logger.warning("A run changed the weights that runs share; they are read again.")
            kept = None
        if kept is None:
            self.clear()
            model = load()
            kept = self._kept[key] = _Kept(model, weights_digest(model))
        return _given(kept.model, private)

    def clear(self) -> None:
        """Let every model go."""
        self._kept.clear()


def model_key(experiment: Experiment, tokenizer: Any, device: Any) -> str:
    """What decides the untuned weights: the model's settings, its tokenizer, its head and its device."""
    parts = [described(experiment.model), tokenizer_fingerprint(tokenizer), experiment.objective.head, str(device)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def weights_digest(model: Any) -> str:
    """A hash over the names, types, shapes and bytes of every parameter and buffer."""
    digest = xxhash.xxh3_128()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}:{tensor.requires_grad};".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    return digest.hexdigest()


def _given(model: Any, private: bool) -> Any:
    """A copy of a model's modules around the same parameters, or around copies of them."""
    memo: dict[int, Any] = {id(model.tokenizer): model.tokenizer} if hasattr(model, "tokenizer") else {}
    if not private:
        for parameter in model.parameters():
            memo[id(parameter)] = torch.nn.Parameter(parameter.data, requires_grad=parameter.requires_grad)
    return copy.deepcopy(model, memo)
