"""A data set: named sources for each split, a format, a division, and no prompt in two splits."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from instruct_lab.assets import Input
from instruct_lab.cache import Entry, Stage, describe
from instruct_lab.config import component
from instruct_lab.data.audit import Audit
from instruct_lab.data.base import Data, split_path, tables, write_flagged
from instruct_lab.data.baselines import Baseline
from instruct_lab.data.conversation import Supervision
from instruct_lab.data.formats.base import Format
from instruct_lab.data.mapping import MapRows
from instruct_lab.data.sources.base import Source
from instruct_lab.data.split import SPLIT_NAMES, HashSplit, SplitName, apart
from instruct_lab.data.stages import audited_stage
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import ConversationWriter
from instruct_lab.errors import InstructLabError, Problem, Refusal


@component
class DataSet(Data):
    """Rows of named sources, pooled for each split and mapped to conversations.

    Where a prompt, normalised, stands in two splits, the row leaves the one that comes later in the order test,
    validation, train. Equal rows within a split stay (preprocessing removes them), except that a catalogue's string
    told twice is one example. Rows that are broken (not JSON, numbers where text should be, an unknown role) are
    dropped and counted, up to `max_broken_share` of a source's rows.
    """

    train: dict[str, Source | None]  # named sources, pooled; null removes one
    validation: dict[str, Source | None] = Field(default_factory=dict)  # the same, where the rows are given
    test: dict[str, Source | None] = Field(default_factory=dict)  # the same, where the rows are given
    format: Format  # how a row becomes a conversation
    split: HashSplit | None = None  # makes validation and test rows out of the training pool
    overlap: Literal["drop", "error", "allow"] = "drop"  # what happens to a prompt that is also in another split
    max_broken_share: Annotated[float, Field(ge=0, le=1)] = 0.01  # of a source's rows; above it, they are an error
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

    def inputs(self, cache_path: Path) -> list[Input]:
        """See `Data.inputs`; those of every split."""
        found = [found for _, _, source in self._every_source() for found in source.inputs(cache_path)]
        return list(dict.fromkeys(found))

    def stage(self, cache_path: Path) -> Stage:
        """See `Data.stage`.

        Its build raises an error where a source cannot be read or is empty, where more than `max_broken_share` of a
        source's rows are broken, and where no row is left to train on.
        """
        depends_on = {
            "data": describe(self, {"baselines", "language"}),
            "inputs": [
                [split, name, [found.sha256 for found in source.inputs(cache_path)]]
                for split, name, source in self._every_source()
            ],
        }
        return audited_stage("data", depends_on, lambda _, folder, audit: self._build(folder, audit, cache_path))

    def stage_after_preprocessing(self) -> Stage | None:
        """See `Data.stage_after_preprocessing`; as `overlap` says."""
        if self.overlap == "allow":
            return None
        return audited_stage("overlap", self.overlap, self._build_apart)

    @property
    def gives(self) -> frozenset[Supervision]:
        """What its format gives."""
        return self.format.gives

    @property
    def has_validation(self) -> bool:
        """Whether validation rows are given or made."""
        return bool(self._sources("validation")) or (self.split is not None and self.split.validation > 0)

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

    def _every_source(self) -> Iterator[tuple[SplitName, str, Source]]:
        for split in SPLIT_NAMES:
            for name, source in self._sources(split).items():
                yield split, name, source

    def _build(self, folder: Path, audit: Audit, cache_path: Path) -> dict[str, Any]:
        with contextlib.ExitStack() as stack:
            writers = {
                name: stack.enter_context(ConversationWriter(folder / f"all-{name}.arrow")) for name in SPLIT_NAMES
            }
            for split in SPLIT_NAMES:
                self._fill(split, writers, cache_path, audit)
        pools = {name: ConversationTable(folder / f"all-{name}.arrow") for name in SPLIT_NAMES}
        flags = {name: bytearray(b"\1") * len(pool) for name, pool in pools.items()}
        if self.overlap != "allow":
            flags = apart(pools, self.overlap, audit)
        sizes = {}
        for name, pool in pools.items():
            self._limit(name, pool, flags[name], audit)
            sizes[str(name)] = write_flagged(pool, flags[name], split_path(folder, name))
            pool.path.unlink()
        if not sizes["train"]:
            raise InstructLabError(
                "No row is left to train on",
                where="data.train",
                do="Look at the shares of data.split and at data.overlap: every row went to another split",
            )
        audit.facts["splits"] = sizes
        return {"splits": sizes}

    def _build_apart(self, before: Entry | None, folder: Path, audit: Audit) -> dict[str, Any]:
        assert before is not None
        assert self.overlap != "allow"
        found = tables(before)
        flags = apart({name: found[name] for name in SPLIT_NAMES}, self.overlap, audit, "preprocessing/overlap")
        return {
            "splits": {name: write_flagged(found[name], flags[name], split_path(folder, name)) for name in SPLIT_NAMES}
        }

    def _fill(
        self, split: SplitName, writers: dict[SplitName, ConversationWriter], cache_path: Path, audit: Audit
    ) -> None:
        """Write the conversations of all of a split's sources, in the order of the config."""
        told: set[str] = set()
        for name, source in self._sources(split).items():
            stage = f"data/{split}/{name}"
            of_source, of_rows = Audit(), Audit()
            num_rows = num_kept = num_broken = 0
            first: InstructLabError | None = None
            work = MapRows(
                format=self.format,
                split=split,
                division=self.split if split == "train" else None,
                source=name,
                stage=stage,
                told=told if source.keeps_one_of_equal_rows else None,
            )
            for part in work.all(source.read(cache_path, of_source, stage)):
                for made, batch in part.batches:
                    writers[made].write_batch(batch)
                num_rows, num_kept = num_rows + part.num_rows, num_kept + part.num_kept
                first, num_broken = first or part.first, num_broken + part.num_broken
                of_rows.absorb(part.audit)
            if first is not None and num_broken > self.max_broken_share * num_rows:
                raise _too_broken(first, num_broken, num_rows, self.max_broken_share)
            if not num_rows:
                raise InstructLabError("The source has no rows", where=f"data.{split}.{name}", do="Choose another")
            audit.absorb(of_source)
            audit.absorb(of_rows)
            audit.rows(stage, num_rows, num_kept)

    def _limit(self, split: SplitName, rows: ConversationTable, flags: bytearray, audit: Audit) -> None:
        """Leave the flags of the rows of lowest content hash; new rows displace few of the old."""
        most, kept = self.limit.get(split), sum(flags)
        if most is None or kept <= most:
            return
        chosen = rows.lowest_ids(most, flags)
        for index in range(len(flags)):
            flags[index] = index in chosen
        audit.rows(f"data/limit/{split}", kept, most)


def _too_broken(first: InstructLabError, broken: int, rows: int, share: float) -> InstructLabError:
    if broken == rows == 1:
        return first
    told = f"; {broken:,} of {rows:,} rows are broken, more than data.max_broken_share ({share:.3g}) of them"
    needed = min(1.0, math.ceil(1000 * broken / rows) / 1000)
    do = f"{first.do.rstrip('.') or 'Mend them'}; or drop and count them with data.max_broken_share={needed}"
    return InstructLabError(first.what.rstrip(".") + told, where=first.where, do=do)
