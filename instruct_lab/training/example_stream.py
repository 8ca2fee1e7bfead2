"""Training examples that are read from a source while the model trains, block by block, and never stored.

The first block is the training split, which is prepared before training. Each later block holds the same number of
examples, from the rows that follow in the source. These rows are converted, preprocessed and tokenised in the same way
as the rows of the first block. A row is left out if it belongs to a held-out split, or if its prompt occurs in such a
split. After the end of the source, reading starts again at the beginning of the source.

Rows are read in groups. A position in the stream consists of the source's own position at the beginning of a group, the
number of rows already used from this group, and the number of examples already used from the next row. A block that is
read again from the same position holds the same examples.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instruct_lab.batching import Example
from instruct_lab.batching.blocks import ExampleBlocks
from instruct_lab.data import Audit, Conversation
from instruct_lab.data.dataset import DataSet, too_many_broken
from instruct_lab.data.mapping import MapRows
from instruct_lab.data.remaining import describe_losses
from instruct_lab.data.sources.base import BrokenRow, Row
from instruct_lab.data.sources.row_stream import SourcePosition
from instruct_lab.data.split import SPLIT_NAMES
from instruct_lab.data.streamed import held_out_prompts
from instruct_lab.data.table import read_batch
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.preprocessing.base import Context
from instruct_lab.progress import advance, stage
from instruct_lab.template import RefusedConversation
from instruct_lab.terminal import write_line

PART_ROWS = 500
"""Number of rows that are prepared together."""
Overlap = Callable[[Conversation], str | None]
"""A function that returns the held-out split that has a conversation's prompt, or `None` if no split has it."""
Splits = Mapping[str, Sequence[Conversation]]


@dataclasses.dataclass(frozen=True)
class StreamPosition:
    """A position in the stream of training examples.

    Args:
        source: the source's own position at the beginning of a group of rows.
        rows: number of rows of this group that are already used.
        examples: number of examples of the next row that are already used.
        passes: number of times that the source was read to its end.
    """

    source: SourcePosition = dataclasses.field(default_factory=dict)
    rows: int = 0
    examples: int = 0
    passes: int = 0


class ExampleStream(ExampleBlocks):
    """The training examples that a run reads from a source while it trains, in blocks of equal size.

    Args:
        experiment: the run's configuration, whose data is a `DataSet` with `stream: true`.
        tokenizer: the model's tokenizer.
        cache_path: folder for downloads.
        first: the examples of the first block.
        conversations: function that returns two dictionaries, each with the conversations of every split: before
            preprocessing, and after it.
        is_reporting: whether to print a line for each block that is read.
    """

    def __init__(
        self,
        experiment: Experiment,
        tokenizer: Any,
        cache_path: Path,
        first: Sequence[Example],
        conversations: Callable[[], tuple[Splits, Splits]],
        is_reporting: bool = True,
    ) -> None:
        data = experiment.data
        assert isinstance(data, DataSet)
        (self._name, self._source) = data.streamed_source
        self._experiment, self._data, self._tokenizer, self._cache_path = experiment, data, tokenizer, cache_path
        self._first, self._conversations, self._is_reporting = first, conversations, is_reporting
        self._starts = self._beginning()
        self._number, self._block = 0, first

    def __len__(self) -> int:
        return len(self._first)

    @functools.cached_property
    def _overlaps(self) -> list[Overlap]:
        """Two functions that say whether, and in which held-out split, a conversation's prompt occurs.

        The first function takes conversations before preprocessing, the second one conversations after preprocessing.
        """
        data, held_out = self._data, SPLIT_NAMES[1:] if self._data.overlap != "allow" else ()
        return [
            held_out_prompts({name: splits[name] for name in held_out}, data.same_prompt)
            for splits in self._conversations()
        ]

    def _beginning(self) -> dict[int, StreamPosition]:
        return {1: StreamPosition(rows=self._source.max_rows or 0)}

    def block(self, number: int) -> Sequence[Example]:
        """Return the block with index `number`.

        Only the first block and the block that was read last are kept. Any other block is read from the source. If
        its position in the source is not known, the blocks before it are read too, from the last one with a known
        position.

        Raises:
            InstructLabError: the source cannot be read, has too many broken rows, or gives no example.
        """
        if number == 0:
            return self._first
        while self._number != number:
            if number < min(self._starts):
                self._starts = self._beginning()
            nearest = max(known for known in self._starts if known <= number)
            with stage(f"reading block {nearest + 1} of the stream", len(self), "example"):
                self._block, end = self._read(nearest, self._starts[nearest])
            self._number = nearest
            self._starts = {nearest: self._starts[nearest], nearest + 1: end}
        return self._block

    def state_dict(self) -> dict[str, Any]:
        """Return the positions at which blocks begin, as far as they are known, as plain values for a checkpoint."""
        return {str(number): dataclasses.asdict(position) for number, position in self._starts.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the positions at which blocks begin; the next block is then read from the source."""
        self._starts = {int(number): StreamPosition(**entries) for number, entries in state_dict.items()}
        self._number, self._block = 0, self._first

    def _read(self, number: int, start: StreamPosition) -> tuple[list[Example], StreamPosition]:
        """Read the block that begins at a position; return its examples and the position after it."""
        audit, counts = Audit(), _Counts()
        examples: list[Example] = []
        position, end = start, None
        while end is None:
            before = len(examples)
            end = self._read_to_end(examples, position, audit, counts)
            is_from_start = position == StreamPosition(passes=position.passes)
            if end is None and is_from_start and len(examples) == before:
                raise self._no_example(audit)
            position = StreamPosition(passes=position.passes + 1)
        self._check(counts)
        if self._is_reporting:
            dropped = describe_losses(audit, "train")
            write_line(
                f"data: block {number + 1} of the stream: {counts.rows:,} rows, {len(examples):,} examples"
                + (f"; dropped: {dropped}" if dropped else "")
                + (f"; the source has been read to its end ({end.passes})" if end.passes != start.passes else "")
            )
        return examples, end

    def _read_to_end(
        self, examples: list[Example], start: StreamPosition, audit: Audit, counts: _Counts
    ) -> StreamPosition | None:
        """Add examples to the block, from a position until the block is full or the source ends.

        Returns:
            The position after the added examples; `None` if the source ended first.
        """
        stream = self._source.stream(self._cache_path, start.source)
        for _ in itertools.islice(stream, start.rows):
            pass
        part, used = start, start.examples
        while rows := list(itertools.islice(stream, min(PART_ROWS, len(self) - len(examples)))):
            trial, numbers = Audit(), _Counts()
            found = self._examples_of(rows, trial, numbers)[used:]
            if len(examples) + len(found) > len(self):  # rows of several examples
                return self._fill(examples, rows, part, audit, counts)
            audit.absorb(trial)
            counts.add(numbers)
            examples += found
            advance(len(found))
            part, used = StreamPosition(stream.position(), passes=start.passes), 0
            if len(examples) == len(self):
                return part
        return None

    def _fill(
        self,
        examples: list[Example],
        rows: Sequence[Row | BrokenRow],
        part: StreamPosition,
        audit: Audit,
        counts: _Counts,
    ) -> StreamPosition:
        """Add examples from a group of rows, which has more than needed, until the block is full.

        Returns:
            The position after the last added example.
        """
        used = part.examples
        for index, row in enumerate(rows):
            found = self._examples_of([row], audit, counts)
            missing = len(self) - len(examples)
            examples += found[used : used + missing]
            if len(examples) == len(self):
                used += missing
                is_whole = used == len(found)
                num_rows = part.rows + index + is_whole
                return dataclasses.replace(part, rows=num_rows, examples=0 if is_whole else used)
            used = 0
        raise AssertionError("the rows of the part do not fill the block")

    def _examples_of(self, rows: list[Row | BrokenRow], audit: Audit, counts: _Counts) -> list[Example]:
        """Convert rows of the source to conversations, preprocess them, and tokenise them as examples."""
        data, experiment = self._data, self._experiment
        mapped = MapRows(data.format, "train", data.split, self._name, f"data/train/{self._name}")((rows, False))
        audit.absorb(mapped.audit)
        conversations = [one for split, batch in mapped.batches if split == "train" for one in read_batch(batch)]
        conversations = self._without_overlap(conversations, self._overlaps[0], audit)
        for name, step in experiment.preprocessing.active_steps.items():
            if "train" in step.splits:
                context = Context(
                    f"preprocessing/train/{name}", audit, tokenizer=lambda: self._tokenizer, cache_path=self._cache_path
                )
                conversations = list(step.apply(conversations, context))
        conversations = self._without_overlap(conversations, self._overlaps[1], audit)
        refused: list[RefusedConversation] = []
        batching, layout = experiment.batching, experiment.layout
        found = list(
            batching.encode(conversations, experiment.template, self._tokenizer, audit, "train", layout, refused)
        )
        error = mapped.first_error or next(iter(refused), None)
        counts.add(_Counts(len(rows), mapped.num_broken + len(refused), error))
        return found

    def _without_overlap(self, conversations: list[Conversation], overlap: Overlap, audit: Audit) -> list[Conversation]:
        """Return the conversations whose prompts are in no held-out split; count the others in the audit.

        Raises:
            InstructLabError: a prompt is in a held-out split, and `data.overlap` is `error`.
        """
        kept = []
        for conversation in conversations:
            if (split := overlap(conversation)) is None:
                kept.append(conversation)
            elif self._data.overlap == "error":
                raise InstructLabError(
                    f"A prompt of the stream is also in {split}",
                    where=conversation.where,
                    do="remove it from one of them, or set data.overlap=drop",
                )
            else:
                audit.record("data/overlap", "dropped", f"train prompt also in {split}", conversation)
        return kept

    def _check(self, counts: _Counts) -> None:
        share = self._data.max_broken_share
        if counts.first_error is not None and counts.broken > share * counts.rows:
            raise too_many_broken(counts.first_error, counts.broken, counts.rows, share)

    def _no_example(self, audit: Audit) -> InstructLabError:
        losses = describe_losses(audit, "train")
        return InstructLabError(
            f"The source of the stream gives no training example{f': {losses} dropped' if losses else ''}",
            where=f"data.train.{self._name}",
            do="type data.stream=false to train on the first max_rows rows",
        )


@dataclasses.dataclass
class _Counts:
    """The number of rows that were read for a block, how many were broken, and the error of the first broken row."""

    rows: int = 0
    broken: int = 0
    first_error: InstructLabError | None = None

    def add(self, other: _Counts) -> None:
        """Add the counts of further rows of the block."""
        self.rows, self.broken = self.rows + other.rows, self.broken + other.broken
        self.first_error = self.first_error or other.first_error
