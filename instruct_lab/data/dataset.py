"""A data set: named sources for each split, a format, a division, and no prompt in two splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.base import Data, DataSplits
from instruct_lab.data.baselines import Baseline
from instruct_lab.data.conversation import Conversation
from instruct_lab.data.format import Format
from instruct_lab.data.source import Source
from instruct_lab.data.split import SPLIT_NAMES, HashSplit, SplitName, separate
from instruct_lab.errors import InstructLabError, Problem, Refusal


@component
class DataSet(Data):
    """Rows of named sources, pooled for each split and mapped to conversations.

    Where a prompt, normalised, stands in two splits, the row leaves the one that comes later in the order test,
    validation, train. Equal rows within a split stay (preprocessing removes them), except that a catalogue's string
    told twice is one example.
    """

    train: dict[str, Source | None]  # named sources, pooled; null removes one
    validation: dict[str, Source | None] = Field(default_factory=dict)  # the same, where the rows are given
    test: dict[str, Source | None] = Field(default_factory=dict)  # the same, where the rows are given
    format: Format  # how a row becomes a conversation
    split: HashSplit | None = None  # makes validation and test rows out of the training pool
    overlap: Literal["drop", "error", "allow"] = "drop"  # what happens to a prompt that is also in another split
    limit: dict[SplitName, Annotated[int, Field(ge=1)] | None] = Field(
        default_factory=dict
    )  # most rows of a split, chosen by content hash
    language: Annotated[str, Field(min_length=2)] | None = None  # locale code of the answers, for others to refer to
    baselines: dict[str, Baseline | None] = Field(default_factory=dict)  # plain answers that stand beside the model's

    def __post_init__(self) -> None:
        """Refuse a data set without training rows, and a split that is both given and made."""
        if not self._sources("train"):
            raise Refusal("train", "names no source, so there is nothing to train on")
        for name in ("validation", "test"):
            if self.split is not None and getattr(self.split, name) > 0 and self._sources(name):
                reason = f"would make {name} rows out of the training pool, and {name} names sources of its own"
                raise Refusal(f"split.{name}", reason, "0")

    def load(self, cache_path: Path, audit: Audit) -> DataSplits:
        """Read, map and split the rows; all three splits are there, possibly empty.

        Args:
            cache_path: folder for what is downloaded.
            audit: counts every row that is left out, with its reason, and holds the splits' sizes.

        Raises:
            InstructLabError: a source cannot be read or is empty, a row does not have the shape that the format
                names, or no row is left to train on.
        """
        inputs: list[Input] = []
        splits = {name: self._pool(name, cache_path, audit, inputs) for name in SPLIT_NAMES}
        if self.split is not None:
            pool, splits["train"] = splits["train"], []
            for conversation in pool:
                splits[self.split.split_of(conversation)].append(conversation)
        if self.overlap != "allow":
            splits = separate(splits, self.overlap, audit)
        splits = {name: self._limited(name, conversations, audit) for name, conversations in splits.items()}
        if not splits["train"]:
            raise InstructLabError(
                "No row is left to train on",
                where="data.train",
                do="Look at the shares of data.split and at data.overlap: every row went to another split",
            )
        audit.facts["splits"] = {name: len(conversations) for name, conversations in splits.items()}
        return DataSplits({str(name): rows for name, rows in splits.items()}, list(dict.fromkeys(inputs)))

    @property
    def has_validation(self) -> bool:
        """Whether validation rows are given or made."""
        return bool(self._sources("validation")) or (self.split is not None and self.split.validation > 0)

    def separated(self, splits: dict[str, list[Conversation]], audit: Audit) -> dict[str, list[Conversation]]:
        """See `Data.separated`; as `overlap` says.

        Raises:
            InstructLabError: with `overlap="error"`, on the first prompt that stands in two splits.
        """
        if self.overlap == "allow":
            return splits
        named = {name: splits.get(name, []) for name in SPLIT_NAMES}
        kept = separate(named, self.overlap, audit, stage="preprocessing/overlap")
        return {str(name): rows for name, rows in kept.items()}

    def problems(self) -> Iterator[Problem]:
        """Columns that the format names and a source, by a light look, does not have."""
        seen = set()
        for name in SPLIT_NAMES:
            for source in self._sources(name).values():
                columns = source.known_columns()
                for problem in self.format.column_problems(columns) if columns is not None else ():
                    if problem not in seen:
                        seen.add(problem)
                        yield Problem(
                            key=f"format.{problem.key}",
                            value=problem.value,
                            reason=problem.reason,
                            suggestion=problem.suggestion,
                        )

    def _sources(self, split: str) -> dict[str, Source]:
        return {name: source for name, source in getattr(self, split).items() if source is not None}

    def _pool(self, split: SplitName, cache_path: Path, audit: Audit, inputs: list[Input]) -> list[Conversation]:
        """The conversations of all of a split's sources, in the order of the config."""
        pool: list[Conversation] = []
        told: set[str] = set()
        for name, source in self._sources(split).items():
            stage = f"data/{split}/{name}"
            read = source.read(cache_path, audit, stage)
            if not read.rows:
                raise InstructLabError("The source has no rows", where=f"data.{split}.{name}", do="Choose another")
            self.format.check_columns(read.rows[0])
            inputs.extend(read.inputs)
            before = len(pool)
            for row in read.rows:
                conversation = self.format.conversation(row)
                if source.keeps_one_of_equal_rows:
                    if conversation.id in told:
                        audit.record(stage, "dropped", "same text and translation as before", row.where)
                        continue
                    told.add(conversation.id)
                pool.append(conversation)
            audit.rows(stage, len(read.rows), len(pool) - before)
        return pool

    def _limited(self, split: SplitName, conversations: list[Conversation], audit: Audit) -> list[Conversation]:
        """The split's rows of lowest content hash, in their own order; new rows displace few of the old."""
        most = self.limit.get(split)
        if most is None or len(conversations) <= most:
            return conversations
        chosen = sorted(range(len(conversations)), key=lambda index: (conversations[index].id, index))[:most]
        audit.rows(f"data/limit/{split}", len(conversations), most)
        return [conversations[index] for index in sorted(chosen)]
