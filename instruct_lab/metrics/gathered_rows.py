"""Rows of examples that every rank of a multi-device run measured for itself, gathered to all ranks.

Heavy: imports torch and torchmetrics.
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
    """Values by example, gathered across ranks and put into the order of the examples.

    A value is whatever can be pickled: a metric's row, a prediction, a dictionary of both. The values travel as bytes,
    since ranks can only exchange tensors, and are gathered by torchmetrics' own synchronisation. Ranks may have
    different numbers of examples, or none; each must call `rows`. An index that several ranks have (a sampler that pads
    the last batch) counts once. Backends that exchange only GPU tensors (nccl) need `GatheredRows().to(device)`.

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
        """Add examples of this rank.

        Args:
            indices: of the examples in the whole set.
            values: as many, of any type that can be pickled.

        Raises:
            ValueError: there are more indices than values, or fewer.
        """
        added = dict(zip(indices, values, strict=True))
        content = bytearray(pickle.dumps(added)) if added else bytearray()
        tensor = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        self.pickled.append(tensor.to(self.device))  # [bytes]

    def compute(self) -> Tensor:
        """The bytes of all ranks."""
        return self.pickled if isinstance(self.pickled, Tensor) else torch.cat(self.pickled)

    def rows(self) -> dict[int, Any]:
        """The values of all ranks by example index, in ascending order, the same on every rank."""
        content = self.compute().cpu().numpy().tobytes()
        stream, found = io.BytesIO(content), dict[int, Any]()
        while stream.tell() < len(content):
            found |= pickle.load(stream)
        return dict(sorted(found.items()))

    def reset(self) -> None:
        """Remove all examples."""
        super().reset()
        self.update([], [])
