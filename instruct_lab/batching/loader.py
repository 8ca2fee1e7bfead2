"""A loader of batches that can be resumed at any position."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.batching.batch import Batch
from instruct_lab.batching.blocks import ExampleBlocks
from instruct_lab.batching.example import IGNORED, Example, ExampleTransform, evaluation_source
from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    import numpy

WINDOW = 1024
"""Number of consecutive examples that are sorted by length together, with `group_by_length`."""

GROUP = 32
"""Number of examples of similar length that stay together when a sorted window is shuffled."""


@dataclasses.dataclass(frozen=True)
class _BatchSampler:
    sampler: BatchLoader


class BatchLoader:
    """An iterable over batches; each iteration yields the batches of one epoch.

    Order: the order of examples depends only on the seed and the epoch, not on batch size and number of devices.
    Batches are consecutive slices of this order. A slice has `batch_size * world_size` examples, and each device takes
    every `world_size`-th of them, so all devices together see the batch that one device with a larger batch would see.
    In evaluation, the batches are given (`batches`) and divided between the devices in the same way; their order is
    random, but the same in every epoch and run, so that a limited number of batches is a fair sample.
    Every device gets the same number of batches, and all devices together use every example exactly once per epoch. If
    the last slice has fewer examples than devices, a device without an example gets a copy of another device's example.
    All labels of the copy are ignored, so it adds nothing to sums and counts.

    Position: `state_dict` counts the batches yielded so far in the epoch. After `load_state_dict`, the next iteration
    continues with the next batch; `len` is always the length of the whole epoch. Iterating again after the last batch
    starts the next epoch. Iterating again in the middle of an epoch restarts the epoch, unless `set_epoch` was called
    for another epoch. Creating an iterator without using it has no effect. Only the latest iterator may be used.

    In Lightning: the Trainer saves and loads the state, but does not load a state that was saved at the end of an
    epoch. In that case, `set_epoch` sets the epoch: the Trainer finds it through `batch_sampler`, and calls it before
    every epoch. With `limit_train_batches` or `overfit_batches`, each epoch uses different examples.

    Args:
        examples: all examples, the same on every device; or a stream whose next block is used in each epoch.
        collate: function that joins examples into a batch.
        batch_size: examples per device; has no effect with `batches`.
        batches: for evaluation, the indices of the examples of each batch, for all devices together; `None`: for
            training, the examples are shuffled.
        seed: random seed for the order and for `transform`, in training.
        group_by_length: whether training batches hold examples of similar length.
        rank: index of this device, from 0.
        world_size: number of devices that share the examples.
        transform: function that is applied to an example each time the example is used. In training, its random
            numbers depend only on the seed, the epoch and the index of the example, not on the batch size or the number
            of devices; in evaluation, they depend only on the example's id.
    """

    def __init__(
        self,
        examples: Sequence[Example] | ExampleBlocks,
        collate: Callable[[Sequence[Example]], Batch],
        *,
        batch_size: int = 1,
        batches: Sequence[numpy.ndarray] | None = None,
        seed: int,
        group_by_length: bool = False,
        rank: int = 0,
        world_size: int = 1,
        transform: ExampleTransform | None = None,
    ) -> None:
        if not 0 <= rank < world_size or batch_size < 1:
            raise ValueError(f"rank {rank} of {world_size} devices, batch size {batch_size}")
        self._examples = examples
        self._collate = collate
        self._batch_size = batch_size
        self._batches = None
        if batches is not None:
            shuffled = _shuffle(len(batches), random.Random("evaluation"))
            self._batches = [batches[index] for index in shuffled]
        self._seed = seed
        self._group_by_length = group_by_length
        self._rank, self._world_size = rank, world_size
        self._transform = transform
        self._epoch, self._position = 0, 0
        self._announced = -1  # last epoch passed to `set_epoch`
        self._continues = False  # whether the next iteration starts at a loaded position

    def __len__(self) -> int:
        """Return the number of batches per device in an epoch."""
        if self._batches is not None:
            return len(self._batches)
        return -(-len(self._examples) // (self._batch_size * self._world_size))

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of an epoch; after `load_state_dict`, only those after the loaded position."""
        if self._position >= len(self) and len(self):
            epoch, start = self._epoch + 1, 0
        else:
            epoch, start = self._epoch, self._position if self._continues else 0
        order = self.order(epoch)
        for position in range(start, len(self)):
            batch = self._collate(self._share(order, position, epoch))
            self._epoch, self._position, self._continues = epoch, position + 1, False
            yield batch

    def order(self, epoch: int) -> numpy.ndarray:
        """Return the indices of all examples in the order of an epoch, for all devices together: int64 `[examples]`."""
        import numpy as np

        if self._batches is not None:
            return np.concatenate(self._batches) if self._batches else np.arange(0)
        source = random.Random(f"{self._seed}:{epoch}")
        examples = self._examples_of(epoch)
        order = _shuffle(len(examples), source)
        if not self._group_by_length:
            return order
        lengths = self._lengths(examples)
        grouped = []
        for start in range(0, len(order), WINDOW):
            window = order[start : start + WINDOW]
            window = window[np.argsort(lengths[window], kind="stable")]
            groups = np.split(window, range(GROUP, len(window), GROUP))
            grouped += [groups[group] for group in _shuffle(len(groups), source)]
        return np.concatenate(grouped) if grouped else order

    def _examples_of(self, epoch: int) -> Sequence[Example]:
        """Return the examples of an epoch: all examples, or the epoch's block if the examples are a stream."""
        return self._examples.block(epoch) if isinstance(self._examples, ExampleBlocks) else self._examples

    @staticmethod
    def _lengths(examples: Sequence[Example]) -> numpy.ndarray:
        import numpy as np

        known = getattr(examples, "lengths", None)
        return known if known is not None else np.array([len(example.input_ids) for example in examples])

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the loader and, if the examples are a stream, the positions in the stream.

        The position consists of the epoch, the number of batches yielded in it, and the last epoch passed to
        `set_epoch` (or -1).
        """
        state: dict[str, Any] = {"epoch": self._epoch, "position": self._position, "announced": self._announced}
        if isinstance(self._examples, ExampleBlocks):
            state["blocks"] = self._examples.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the position, so that the next iteration continues where the state was saved.

        Raises:
            InstructLabError: an epoch has fewer batches than the saved position.
        """
        epoch, position = int(state_dict["epoch"]), int(state_dict["position"])
        if epoch < 0 or not 0 <= position <= len(self):
            raise InstructLabError(
                f"The checkpoint was saved at batch {position} of epoch {epoch}, but an epoch has {len(self)} batches",
                do="resume with the data, batch size and number of devices of the run that wrote it",
            )
        if isinstance(self._examples, ExampleBlocks) and "blocks" in state_dict:
            self._examples.load_state_dict(state_dict["blocks"])
        self._epoch, self._position, self._continues = epoch, position, True
        self._announced = int(state_dict.get("announced", epoch))

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the epoch before the first batch of a new loader; later, start the next epoch.

        Later, the loader counts epochs itself and does not use the number, because a resumed Lightning run can call
        this method twice before the next batch, and the second number is then too high by 1. Such a later call has no
        effect if no batch of the current epoch was yielded, or if `epoch` is the same as in the last call.
        """
        if epoch == self._announced:
            return
        if self._position:
            self._epoch, self._position, self._continues = self._epoch + 1, 0, False
        elif self._announced < 0:
            self._epoch = epoch
        self._announced = epoch

    @property
    def batch_sampler(self) -> _BatchSampler:
        """An object whose `sampler` is this loader; through it, Lightning calls `set_epoch`."""
        return _BatchSampler(self)

    def _share(self, order: numpy.ndarray, position: int, epoch: int) -> list[Example]:
        together = self._together(order, position)
        mine = [self._example(index, epoch) for index in together[self._rank :: self._world_size]]
        if mine:
            return mine
        shortest = min((self._example(index, epoch) for index in together), key=lambda e: len(e.input_ids))
        return [_without_target(shortest)]

    def _together(self, order: numpy.ndarray, position: int) -> numpy.ndarray:
        """Return the indices of the examples in the batch at `position`, for all devices together."""
        if self._batches is not None:
            return self._batches[position]
        size = self._batch_size * self._world_size
        return order[position * size : (position + 1) * size]

    def _example(self, index: int, epoch: int) -> Example:
        example = self._examples_of(epoch)[index]
        if self._transform is None:
            return example
        if self._batches is not None:
            return self._transform(example, evaluation_source(example))
        return self._transform(example, random.Random(f"{self._seed}:{epoch}:{index}"))


def _without_target(example: Example) -> Example:
    """Return the example with all labels ignored."""
    rejected = None if example.rejected is None else _without_target(example.rejected)
    return dataclasses.replace(example, labels=[IGNORED] * len(example.labels), rejected=rejected)


def _shuffle(count: int, source: random.Random) -> numpy.ndarray:
    """Return the integers from 0 to `count - 1` in random order."""
    import numpy as np

    keys = np.fromiter((source.random() for _ in range(count)), np.float64, count)  # the same in all versions of Python
    return np.argsort(keys, kind="stable")
