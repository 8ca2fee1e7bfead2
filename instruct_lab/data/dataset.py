"""The data set that reads the rows of each split from named sources, and keeps each prompt in only one split."""

from __future__ import annotations

import contextlib
import json
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
from instruct_lab.data.conversation import Conversation, Supervision
from instruct_lab.data.formats.base import Format
from instruct_lab.data.mapping import MapRows
from instruct_lab.data.remaining import SEE_DROPPED, NoRowsLeft, describe_losses, warn_of_division, warn_of_empty_splits
from instruct_lab.data.sources.base import Source
from instruct_lab.data.split import (
    SPLIT_NAMES,
    HashSplit,
    SamePrompt,
    SplitName,
    metadata_value,
    select_without_overlap,
)
from instruct_lab.data.stages import audited_stage
from instruct_lab.data.streamed import refuse_stream
from instruct_lab.data.table import ConversationTable, RowText
from instruct_lab.data.writing import ConversationWriter
from instruct_lab.errors import InstructLabError, Problem, Refusal

READING = "reading the data"
COMPARING = "comparing the prompts of the splits"


@component
class DataSet(Data):
    """A data set whose config names the sources of each split's rows; one format turns all rows into conversations.

    If a prompt occurs in two splits, only the rows of one split are kept: test has priority over validation, and
    validation over train. Prompts, including system messages, are compared by all their visible characters;
    `same_prompt: words` ignores case, punctuation and symbols. Equal rows within a split are kept (preprocessing can
    remove them), except in sources whose files repeat many texts, such as catalogues of translations. Broken rows (not
    JSON, numbers instead of text, an unknown role) are dropped and counted. It is an error if their proportion in a
    source is larger than `max_broken_share`.
    """

    train: dict[str, Source | None] = Field(
        default_factory=dict
    )  # named training sources, pooled; null removes a source; empty for data that is only evaluated
    validation: dict[str, Source | None] = Field(default_factory=dict)  # named sources of validation rows
    test: dict[str, Source | None] = Field(default_factory=dict)  # named sources of test rows
    format: Format  # how a row becomes a conversation
    split: HashSplit | None = None  # takes validation and test rows from the training rows
    overlap: Literal["drop", "error", "allow"] = "drop"  # what happens to a prompt that is also in another split
    same_prompt: SamePrompt = "characters"  # compare prompts by all visible characters, or only by their words
    max_broken_share: Annotated[float, Field(ge=0, le=1)] = 0.01  # largest proportion of broken rows in a source
    limit: dict[SplitName, Annotated[int, Field(ge=1)] | None] = Field(
        default_factory=dict
    )  # maximum number of rows of a split, selected by content hash
    language: Annotated[str, Field(min_length=2)] | None = None  # locale code of the answers, used by metrics and steps
    baselines: dict[str, Baseline | None] = Field(default_factory=dict)  # baselines that answer without a model
    stream: bool = False  # also train on rows after max_rows: each epoch reads the next block, which is not stored
    cluster: Annotated[str, Field(min_length=1)] | None = (
        None  # metadata column that names groups of similar rows (document, file, template), which intervals resample
    )

    def __post_init__(self) -> None:
        """Check that there is a source, and that no split has sources and also takes a part of the training rows.

        Raises:
            Refusal: one of these conditions is not met, or `stream` is true and does not fit the training sources.
        """
        if not any(map(self._sources, SPLIT_NAMES)):
            raise Refusal("train", "names no source, so there are no rows to train on")
        for name in ("validation", "test"):
            if self.split is not None and getattr(self.split, name) > 0 and self._sources(name):
                reason = f"takes {name} rows from the training rows, and {name} has sources of its own"
                raise Refusal(f"split.{name}", reason, "0")
        if self.stream:
            refuse_stream(self._sources("train"), self.limit.get("train"))

    @property
    def is_stream(self) -> bool:
        """Whether the setting `stream` is true, so that training also reads rows that are never stored on disk."""
        return self.stream

    @property
    def streamed_source(self) -> tuple[str, Source]:
        """The name of the only training source, and the source; this is for `stream: true`, which allows only one."""
        ((name, source),) = self._sources("train").items()
        return name, source

    def inputs(self, cache_path: Path) -> list[Input]:
        """Return the inputs of all sources of all splits, each once and with its SHA-256."""
        found = [found for _, _, source in self._every_source() for found in source.inputs(cache_path)]
        return list(dict.fromkeys(found))

    def stage(self, cache_path: Path) -> Stage:
        """Return the stage that reads the rows, converts them, and writes a file of conversations for each split.

        When the stage runs, it raises an error if a source cannot be read or is empty, if the proportion of a source's
        rows that are broken is larger than `max_broken_share`, or if no row is left to train on.
        """
        depends_on = {
            "data": describe(self, {"baselines", "language", "cluster", "stream"}),
            "inputs": [
                [split, name, [found.sha256 for found in source.inputs(cache_path)]]
                for split, name, source in self._every_source()
            ],
        }
        return audited_stage(
            "data", depends_on, lambda _, folder, audit: self._build(folder, audit, cache_path), READING
        )

    def stage_after_preprocessing(self) -> Stage | None:
        """Return the stage that checks once more, after preprocessing, whether a prompt occurs in two splits.

        Preprocessing can make prompts equal. If the setting `overlap` is `allow`, this is accepted, and the result is
        `None`.
        """
        if self.overlap == "allow":
            return None
        return audited_stage("overlap", [self.overlap, self.same_prompt], self._build_without_overlap, COMPARING)

    @property
    def allowed_broken_share(self) -> float:
        """The largest accepted proportion of broken rows: the setting `max_broken_share`."""
        return self.max_broken_share

    def cluster_of(self, conversation: Conversation) -> str:
        """Return the name of the cluster of related rows that contains a row.

        It is the row's value in the column that the setting `cluster` names. It is empty if the value is null, or if
        the setting names no column.

        Raises:
            InstructLabError: the row does not have the column.
        """
        if self.cluster is None:
            return ""
        use = "Intervals resample the clusters that are named by"
        value = metadata_value(conversation, self.cluster, "data.cluster", use)
        if value is None or isinstance(value, str):
            return value or ""
        return json.dumps(value, sort_keys=True, default=str)

    @property
    def needs_reasoning_template(self) -> bool:
        """Whether the format's setting `reasoning` is `template`, which requires a template with `<think>` tags."""
        return getattr(self.format, "reasoning", None) == "template"

    @property
    def gives(self) -> frozenset[Supervision]:
        """What the conversations contain for training, such as `answers` or `pairs`; the format determines it."""
        return self.format.gives

    def source_names(self, split: SplitName) -> list[str]:
        """Return the names of the sources from which a split's rows are read.

        If the split takes a part of the training rows, these are the training sources.
        """
        if split != "train" and self.split is not None and getattr(self.split, split) > 0:
            return list(self._sources("train"))
        return list(self._sources(split))

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for each mismatch between the columns of a source and the settings.

        The format may need a column that the source lacks, or the source may have a column with content that the format
        would ignore. It is also a problem if `cluster` names a column that goes into the messages. To be fast, only the
        first rows of a source are read. Missing columns are found only if the source's column names are known without
        reading all of its rows.
        """
        seen = set()
        if self.cluster is not None and self.cluster in self.format.consumed_columns():
            reason = "this column goes into the messages, and only columns that stay in the metadata can name clusters"
            yield Problem(key="cluster", value=self.cluster, reason=reason)
        for name in SPLIT_NAMES:
            for source in self._sources(name).values():
                columns = source.known_columns()
                missing = self.format.column_problems(columns) if columns is not None else ()
                for problem in (*missing, *self.format.content_problems(source.first_rows())):
                    if str(problem) not in seen:
                        seen.add(str(problem))
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
        pooled = {name: len(pool) for name, pool in pools.items()}
        if self.split is not None:
            warn_of_division(
                audit, self.split, {n: pooled[n] for n in SPLIT_NAMES if not self._sources(n) or n == "train"}
            )
        flags = {name: bytearray(b"\1") * len(pool) for name, pool in pools.items()}
        if self.overlap != "allow":
            flags = select_without_overlap(pools, self.overlap, audit, same_prompt=self.same_prompt)
        sizes = {}
        for name, pool in pools.items():
            self._limit(name, pool, flags[name], audit)
            sizes[str(name)] = write_flagged(pool, flags[name], split_path(folder, name))
            pool.path.unlink()
        if self._sources("train") and not sizes["train"]:
            taken = ", ".join(f"{pooled[name]:,} to {name}" for name in SPLIT_NAMES[1:] if pooled[name])
            losses = describe_losses(audit, "train")
            raise NoRowsLeft(
                f"No row is left to train on: {pooled['train']:,} rows were for train{f', {taken}' if taken else ''}"
                + (f"; dropped: {losses}" if losses else ""),
                audit,
                where="data.train",
                do=SEE_DROPPED if losses else "Lower the shares of data.split, or give more rows",
            )
        warn_of_empty_splits(audit, self.requested_splits, sizes, pooled)
        audit.facts["splits"] = sizes
        return {"splits": sizes}

    def _build_without_overlap(self, before: Entry | None, folder: Path, audit: Audit) -> dict[str, Any]:
        assert before is not None
        assert self.overlap != "allow"
        found = tables(before)
        flags = select_without_overlap(
            {name: found[name] for name in SPLIT_NAMES}, self.overlap, audit, "preprocessing/overlap", self.same_prompt
        )
        return {
            "splits": {name: write_flagged(found[name], flags[name], split_path(folder, name)) for name in SPLIT_NAMES}
        }

    def _fill(
        self, split: SplitName, writers: dict[SplitName, ConversationWriter], cache_path: Path, audit: Audit
    ) -> None:
        """Read all sources of a split, in the order of the config, and write their conversations.

        Args:
            split: the split whose sources are read. If it is `train`, some of the rows may be written to other splits.
            writers: a writer for each split.
            cache_path: folder for downloads.
            audit: the audit to which dropped and changed rows are added.

        Raises:
            InstructLabError: a source cannot be read, has no rows, or has too many broken rows.
        """
        seen_ids: set[str] = set()
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
                seen_ids=seen_ids if source.keeps_one_of_equal_rows else None,
            )
            for part in work.map_all(source.read(cache_path, of_source, stage)):
                for target, batch in part.batches:
                    writers[target].write_batch(batch)
                num_rows, num_kept = num_rows + part.num_rows, num_kept + part.num_kept
                first, num_broken = first or part.first_error, num_broken + part.num_broken
                of_rows.absorb(part.audit)
            if first is not None and num_broken > self.max_broken_share * num_rows:
                raise too_many_broken(first, num_broken, num_rows, self.max_broken_share)
            if not num_rows:
                raise InstructLabError(
                    "The source has no rows", where=f"data.{split}.{name}", do="Choose another source"
                )
            audit.absorb(of_source)
            audit.absorb(of_rows)
            audit.rows(stage, num_rows, num_kept)

    def _limit(self, split: SplitName, rows: ConversationTable, flags: bytearray, audit: Audit) -> None:
        """If a split has more rows than the setting `limit` allows, set the flags of the surplus rows to 0.

        The rows with the lowest content hashes are kept, so that additional data replaces only a few of the kept rows.

        Args:
            split: the split.
            rows: its rows.
            flags: one byte for each row: 1 if it is kept, 0 if it has been dropped.
            audit: the audit to which the dropped rows are added.
        """
        most, kept = self.limit.get(split), sum(flags)
        if most is None or kept <= most:
            return
        selected = rows.lowest_ids(most, flags)
        for index, flag in enumerate(flags):
            flags[index] = index in selected
            if flag and not flags[index]:
                audit.record(f"data/limit/{split}", "dropped", "more than data.limit", RowText(rows, index))
        audit.rows(f"data/limit/{split}", kept, most)


def too_many_broken(first: InstructLabError, broken: int, rows: int, share: float) -> InstructLabError:
    """Return the error for a source with too many broken rows.

    Args:
        first: the error of the first broken row, to whose message the numbers are added.
        broken: number of broken rows.
        rows: number of all rows.
        share: the largest accepted proportion of broken rows.
    """
    if broken == rows == 1:
        return first
    more = f"; {broken:,} of {rows:,} rows are broken, more than data.max_broken_share ({share:.3g}) of them"
    needed = min(1.0, math.ceil(1000 * broken / rows) / 1000)
    do = f"{first.do.rstrip('.') or 'Correct them'}; or drop and count them with data.max_broken_share={needed}"
    return InstructLabError(first.what.rstrip(".") + more, where=first.where, do=do)
