"""Batches: padded tensors of several examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.packing import Packing

if TYPE_CHECKING:
    from torch import Tensor, device

    from instruct_lab.batching.prefixes import PrefixTree


@dataclasses.dataclass(slots=True)  # not frozen: Lightning's `convert_input` copies a batch field by field
class Batch:
    """Padded tensors of several examples.

    A batch of preference pairs has a row for each chosen answer, followed by a row for each rejected answer, in the
    same order. If some examples are pairs and the others are answers marked as desirable or undesirable, the batch has
    a row for each example, followed by the rejected answers of the pairs.

    Args:
        input_ids: int64 `[rows, seq]`, token ids, padded on the right.
        attention_mask: int64 `[rows, seq]`; 1 for tokens, 0 for padding.
        labels: int64 `[rows, seq]`, the token ids to predict, -100 where there is no target; for encoder-decoder models
            `[rows, target_seq]`.
        sources: the name of each example's data source, `[examples]`.
        weights: float32, in the shape of `labels`; `None` means that every weight is 1.
        reference: float32 `[examples, 2]`, log-probabilities of the chosen and of the rejected answer under the base
            model, in nats; `None` if they were not computed before training.
        is_paired: whether every example is a preference pair.
        desirable: bool `[rows]`, whether each row's answer is desirable; `None` if no example is marked as desirable or
            undesirable.
        owners: int64 `[rows]`, the index of the example that each row belongs to; `None` if `desirable` is `None`.
        ids: the id of each example, `[examples]`.
        join: function that joins the examples from a start index to an end index (exclusive) into a smaller batch;
            `None` if the batch cannot be divided.
        packing: how the texts of all rows are joined into long rows for the model; `None`: the model reads padded
            rows. The results of a row are the same in both cases, up to rounding.
        prefixes: the prefixes that rows share, which a causal decoder may compute once; `None` if none are shared.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sources: list[str] = dataclasses.field(default_factory=list)
    weights: Tensor | None = None
    reference: Tensor | None = None
    is_paired: bool = False
    desirable: Tensor | None = None
    owners: Tensor | None = None
    ids: list[str] = dataclasses.field(default_factory=list)
    join: Callable[[int, int], Batch] | None = dataclasses.field(default=None, repr=False, compare=False)
    packing: Packing | None = None
    prefixes: PrefixTree | None = None

    def to(self, device: device | str, **options: Any) -> Batch:
        """Copy the batch to a device; Lightning calls this method."""
        moved = {
            field.name: value.to(device, **options) if hasattr(value, "to") else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }
        return Batch(**moved)

    def rows(self, start: int, end: int) -> Batch:
        """Return the rows from `start` to `end` (exclusive) as a batch of single examples, without shared prefixes."""
        return Batch(
            input_ids=self.input_ids[start:end],
            attention_mask=self.attention_mask[start:end],
            labels=self.labels[start:end],
            sources=self.sources[start:end],
            weights=None if self.weights is None else self.weights[start:end],
            packing=self.packing,
        )

    def parts(self, size: int) -> Iterator[Batch]:
        """Divide the batch into batches of at most `size` consecutive examples, on the same device.

        Each is padded only to its own longest example. A batch that is small enough or cannot be divided is yielded
        unchanged.
        """
        if self.num_examples <= size or self.join is None:
            yield self
            return
        for start in range(0, self.num_examples, size):
            yield self.part(start, min(start + size, self.num_examples))

    def part(self, start: int, end: int) -> Batch:
        """Return the examples from `start` to `end` (exclusive) as a batch on the same device."""
        if (start, end) == (0, self.num_examples):
            return self
        assert self.join is not None
        return self.join(start, end).to(self.input_ids.device)

    @property
    def chosen(self) -> Batch:
        """The batch without the rows of rejected answers; the whole batch if it has no preference pairs."""
        return self if self.num_examples == len(self.input_ids) else self.rows(0, self.num_examples)

    @property
    def num_examples(self) -> int:
        """The number of examples; a pair has two rows, any other example has one."""
        if self.owners is not None:
            return int(self.owners.max()) + 1
        return len(self.input_ids) // 2 if self.is_paired else len(self.input_ids)

    @property
    def num_positions(self) -> int:
        """The number of tokens in the rows that the model reads, including padding tokens."""
        if self.packing is None:
            return self.input_ids.numel()
        rows, width = self.packing.rows(self.attention_mask.sum(dim=1).tolist())
        return len(rows) * width

    @property
    def rejected(self) -> Batch:
        """The rows of the rejected answers of a batch in which every example is a pair."""
        return self.rows(len(self.input_ids) // 2, len(self.input_ids))
