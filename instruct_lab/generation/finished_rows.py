"""Decode the rows of a batch only as long as their answers are unfinished.

`generate` of transformers computes every row until the last answer of the batch ends. Here it stops once a quarter of
the answers has ended. It is then called again for the unfinished rows, with their part of the key-value cache.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import StoppingCriteria

from instruct_lab.generation.next_token import RowProcessor

MAX_RUNNING_SHARE = 0.75
"""Finished rows leave a batch once at most this fraction of its rows is unfinished; removing rows copies the cache."""
MIN_ROWS = 8
"""A batch of at most this many rows is not made smaller, because a forward pass of fewer rows takes no less time."""


@dataclasses.dataclass
class Rows:
    """The unfinished rows of a batch: their tokens, attention mask, logits processors and key-value cache.

    Args:
        input_ids: prompts and new tokens, int64 `[rows, seq]`.
        mask: attention mask, int64 `[rows, seq]`; 1 for tokens, 0 for padding.
        processors: logits processors with a state for each row, such as a random generator.
        cache: a dictionary with the key-value cache of all tokens but the last; its key is the name of the model's
            argument for the cache. The dictionary is empty if `generate` creates the cache; then no row can leave the
            batch.
        indices: the index of each row in the batch as it was before any row left.
    """

    input_ids: torch.Tensor
    mask: torch.Tensor
    processors: Sequence[RowProcessor]
    cache: dict[str, Any]
    indices: list[int] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Number the rows from 0, because no row has left the batch yet."""
        self.indices = list(range(len(self.input_ids)))

    def keep(self, indices: Sequence[int], output: torch.Tensor) -> None:
        """Keep only the rows with the given indices, and add their new tokens.

        Args:
            indices: the values of `self.indices` of the kept rows, in ascending order.
            output: prompts and new tokens of all rows that are in the batch before this call, int64 `[rows, seq]`.
        """
        kept = torch.tensor([self.indices.index(index) for index in indices], dtype=torch.long, device=output.device)
        self.indices = list(indices)
        if not indices:
            return
        self.input_ids = output[kept]
        self.mask = functional.pad(self.mask[kept], (0, output.shape[1] - self.mask.shape[1]), value=1)
        for processor in self.processors:
            processor.keep(kept)
        for cache in self.cache.values():
            cache.batch_select_indices(kept)


class EnoughEnded(StoppingCriteria):
    """A stopping criterion that stops a whole batch once at least a quarter of its answers have ended.

    A batch of at most 8 rows is not stopped.

    Args:
        stop_token_ids: tokens that end an answer.
        num_rows: number of rows of the batch.
    """

    def __init__(self, stop_token_ids: Sequence[int], num_rows: int) -> None:
        self._stops = torch.tensor(list(stop_token_ids), dtype=torch.long)
        self._has_ended = torch.zeros(num_rows, dtype=torch.bool)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **arguments: Any) -> torch.Tensor:
        """Return whether the batch stops, as bool `[rows]` with the same value for each row."""
        self._has_ended |= torch.isin(input_ids[:, -1].cpu(), self._stops)
        num_rows = len(input_ids)
        stops = num_rows > MIN_ROWS and int((~self._has_ended).sum()) <= MAX_RUNNING_SHARE * num_rows
        return torch.full((num_rows,), stops, device=input_ids.device)
