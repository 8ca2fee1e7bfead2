"""Gathering of values that the ranks of a multi-device run computed for examples, so that every rank has all of them.

This module imports torch and torchmetrics.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any

import torch
import torchmetrics
from torch import Tensor


class GatheredRows(torchmetrics.Metric):
    """Gathers one value for each example from all ranks, in the order of the examples.

    A value is any object that can be pickled, such as a prediction or what a metric stores for an example. Ranks can
    only exchange tensors, so torchmetrics' synchronisation sends the values as bytes. Ranks may have different numbers
    of examples, or no examples; every rank must call `rows`. An example that occurs on several ranks (because a sampler
    pads the last batch) counts once. Backends that exchange only GPU tensors (nccl) need `GatheredRows().to(device)`.

    Example:
        >>> gathered = GatheredRows()
        >>> gathered.update([2, 0], [[1.0, 3.0], [0.0, 5.0]])
        >>> gathered.rows()
        {0: [0.0, 5.0], 2: [1.0, 3.0]}
    """

    is_differentiable = False
    full_state_update = False
    pickled: list[Tensor]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("pickled", default=[], dist_reduce_fx="cat")
        self.update([], [])

    def update(self, indices: Sequence[int], values: Sequence[Any]) -> None:
        """Add the values of examples that this rank has computed.

        Args:
            indices: indices of the examples in the set that all ranks compute together.
            values: one object for each index, of any type that can be pickled.

        Raises:
            ValueError: the numbers of indices and values differ.
        """
        added = dict(zip(indices, values, strict=True))
        content = bytearray(pickle.dumps(added)) if added else bytearray()
        tensor = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        self.pickled.append(tensor.to(self.device))  # [bytes]

    def compute(self) -> Tensor:
        """Return the pickled values of all ranks, joined in one uint8 tensor of shape `[bytes]`."""
        return self.pickled if isinstance(self.pickled, Tensor) else torch.cat(self.pickled)

    def rows(self) -> dict[int, Any]:
        """Return the values of all ranks, keyed by the index of the example; indices are in ascending order.

        Every rank gets the same dictionary.
        """
        content = self.compute().cpu().numpy().tobytes()
        stream, found = io.BytesIO(content), dict[int, Any]()
        while stream.tell() < len(content):
            found |= pickle.load(stream)
        return dict(sorted(found.items()))

    def reset(self) -> None:
        """Remove the values of all examples."""
        super().reset()
        self.update([], [])
