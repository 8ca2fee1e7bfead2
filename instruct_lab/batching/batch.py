"""Batches: padded tensors of several examples."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, device


@dataclasses.dataclass(slots=True)  # not frozen: Lightning's `convert_input` copies a batch field by field
class Batch:
    """Padded tensors of several examples.

    A batch of preference pairs first has a row for each chosen answer, then the rejected answers in the same order.

    Args:
        input_ids: int64 `[rows, seq]`.
        attention_mask: int64 `[rows, seq]`; 1 for tokens, 0 for padding.
        labels: int64 `[rows, seq]`; for encoder-decoder models `[rows, target_seq]`.
        sources: the source of each example, `[examples]`.
        weights: float32, in the shape of `labels`; `None` means that every weight is 1.
        reference: float32 `[examples, 2]`, log-probabilities of the chosen and the rejected labels under the base
            model, in nats; `None` if they were not computed before training.
        is_paired: whether the examples are preference pairs.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sources: list[str] = dataclasses.field(default_factory=list)
    weights: Tensor | None = None
    reference: Tensor | None = None
    is_paired: bool = False

    def to(self, device: device | str, **options: Any) -> Batch:
        """Copy the batch to a device; called by Lightning."""
        moved = {
            field.name: value.to(device, **options) if hasattr(value, "to") else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }
        return Batch(**moved)

    def rows(self, start: int, end: int) -> Batch:
        """Return the rows from `start` to `end` as a batch without pairs."""
        return Batch(
            input_ids=self.input_ids[start:end],
            attention_mask=self.attention_mask[start:end],
            labels=self.labels[start:end],
            sources=self.sources[start:end],
            weights=None if self.weights is None else self.weights[start:end],
        )

    @property
    def chosen(self) -> Batch:
        """The rows of the chosen answers; all rows if there are no pairs."""
        return self.rows(0, len(self.input_ids) // 2) if self.is_paired else self

    @property
    def rejected(self) -> Batch:
        """The rows of the rejected answers; only for pairs."""
        return self.rows(len(self.input_ids) // 2, len(self.input_ids))
