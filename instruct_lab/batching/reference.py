"""Examples with their log-probabilities under the base model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from instruct_lab.batching.example import Example

if TYPE_CHECKING:
    import numpy


class ReferencedExamples(Sequence[Example]):
    """A sequence of examples, each with log-probabilities under the base model in its field `reference`.

    Args:
        examples: the examples, whose own `reference` is not set.
        reference: log-probabilities of the chosen and of the rejected answer in nats, float64 `[examples, 2]`.
    """

    def __init__(self, examples: Sequence[Example], reference: numpy.ndarray) -> None:
        if len(examples) != len(reference):
            raise ValueError(f"{len(examples)} examples and {len(reference)} references")
        self._examples = examples
        self._reference = reference

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        chosen, rejected = self._reference[index].tolist()
        return dataclasses.replace(self._examples[index], reference=(chosen, rejected))

    @property
    def lengths(self) -> Any:
        """The number of tokens of each example, int32 `[examples]`."""
        return self._examples.lengths  # type: ignore[attr-defined]

    @property
    def widths(self) -> Any:
        """The number of tokens of each sequence of each example, `[examples, sequences]`.

        An example has one sequence; a preference pair has two, one for each answer. An encoder-decoder's labels are
        padded separately, so they count as sequences too.
        """
        return self._examples.widths  # type: ignore[attr-defined]
