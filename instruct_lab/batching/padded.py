"""Batching with one example per row, padded to the longest example, and its base class."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from instruct_lab.batching.base import Batching
from instruct_lab.batching.batch import Batch
from instruct_lab.batching.example import IGNORED, Example
from instruct_lab.batching.prefixes import share_prefixes
from instruct_lab.config import component

if TYPE_CHECKING:
    import numpy
    from torch import Tensor


@component
class RowBatching(Batching, ABC):
    """Base class of batchings whose batches have a row for each text, padded on the right to the longest text."""

    pad_to_multiple_of: Annotated[int, Field(ge=1)] = 1  # pad rows to a multiple of this length; 8 suits GPUs
    group_by_length: bool = True  # in training, join examples of similar length

    @property
    def groups_by_length(self) -> bool:
        """Whether training batches hold examples of similar length, as set in the field `group_by_length`."""
        return self.group_by_length

    def widths(self, examples: Sequence[Example]) -> numpy.ndarray:
        """Return the length of each sequence of each example, rounded up to a multiple of `pad_to_multiple_of`.

        An example has one sequence; a preference pair has two, one for each answer. An encoder-decoder's labels are
        padded separately, so they count as sequences too.
        """
        return -(-super().widths(examples) // self.pad_to_multiple_of) * self.pad_to_multiple_of

    def _join(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """Join examples into a batch of rows of equal length; rows with the rejected answers of pairs come last."""
        import torch

        pad = pad_token_id if pad_token_id is not None else 0
        pairs = [(index, e.rejected) for index, e in enumerate(examples) if e.rejected is not None]
        rows = [*examples, *(rejected for _, rejected in pairs)]
        desirable = owners = None
        if any(example.desirable is not None for example in examples):
            desirable = torch.tensor([e.desirable is not False for e in examples] + [False] * len(pairs))
            owners = torch.tensor([*range(len(examples)), *(index for index, _ in pairs)])
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        input_ids = self._pad([row.input_ids for row in rows], pad)
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()  # [rows, seq]
        labels = self._pad([row.labels for row in rows], IGNORED)
        weights = None
        if any(row.weights is not None for row in rows):
            weights = self._pad([row.weights or [1.0] * len(row.labels) for row in rows], 0.0)
        reference = None
        if all(example.reference is not None for example in examples):
            reference = torch.tensor([example.reference for example in examples], dtype=torch.float32)
        return Batch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            sources=[example.source for example in examples],
            ids=[example.id for example in examples],
            weights=weights,
            reference=reference,
            is_paired=len(pairs) == len(examples),
            desirable=desirable,
            owners=owners,
        )

    def _pad(self, rows: Sequence[Sequence[float]], padding: float) -> Tensor:
        """Pad rows to the same length; the result `[rows, seq]` has the dtype of the padding value."""
        import torch

        width = -(-max(map(len, rows)) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = torch.full((len(rows), width), padding)
        for index, row in enumerate(rows):
            padded[index, : len(row)] = torch.tensor(row, dtype=padded.dtype)
        return padded


@component
class Padded(RowBatching):
    """One example per row, padded on the right to the longest example of the batch.

    In training, batches hold examples of similar length (`group_by_length`), so that little padding is computed.
    """

    share_prefix: Literal["auto", "off"] = "auto"  # auto: compute a beginning that rows share once, if this saves time

    def collate(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """Join examples into one batch, and find the prefixes that its rows share."""
        batch = self._join(examples, pad_token_id)
        if self.share_prefix == "auto":
            batch.prefixes = share_prefixes(batch.input_ids, batch.attention_mask.sum(dim=1))
        return batch
