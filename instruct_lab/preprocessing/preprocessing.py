"""The preprocessing pipeline: its steps run one after another, and the result of each step is cached."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from instruct_lab.cache import Entry, Stage, WorkerKind, describe, link, map_in_order
from instruct_lab.config import Component, component
from instruct_lab.data import Audit, Conversation
from instruct_lab.data.base import split_path, tables, write_flagged
from instruct_lab.data.split import SPLIT_NAMES
from instruct_lab.data.stages import audited_stage
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import ConversationWriter, rewrite_batch, write_conversations
from instruct_lab.errors import LimitExceeded, Problem
from instruct_lab.optional_packages import missing_packages
from instruct_lab.preprocessing.base import Context, Step, no_tokenizer
from instruct_lab.progress import advance, stage

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase


@dataclasses.dataclass(frozen=True)
class RunTokenizer:
    """The run's tokenizer, loaded when a step needs it.

    Args:
        load: function that loads the tokenizer.
        fingerprint: function that returns a hash of everything that determines how the tokenizer encodes texts.
    """

    load: Callable[[], PreTrainedTokenizerBase] = no_tokenizer
    fingerprint: Callable[[], str] = str


@component
class Preprocessing(Component):
    """A pipeline of named steps; each step processes all of its splits before the next step begins.

    Steps run in order of their field `weight`; steps of equal weight run in the order of the config. A step set to null
    does not run. Several processes read, preprocess and tokenise parts of a split; the result is the same, to the byte,
    as with one process.
    """

    steps: dict[str, Step | None] = Field(default_factory=dict)  # named steps; null removes a step
    workers: WorkerKind = "local"  # processes that prepare the data: on this machine, or tasks of a Ray cluster (ray)

    @property
    def active_steps(self) -> dict[str, Step]:
        """The steps that are not null, in the order in which they run."""
        active = [(name, step) for name, step in self.steps.items() if step is not None]
        return dict(sorted(active, key=lambda named: named[1].weight))

    def problems(self) -> Iterator[Problem]:
        """Report that Ray is not installed if `workers` is `ray`."""
        if self.workers == "ray":
            yield from missing_packages("ray", key="workers", value=self.workers)

    def stages(self, cache_path: Path, tokenizer: RunTokenizer | None = None) -> list[Stage]:
        """Return a `Stage` for each active step: it runs the step on all its splits, and its result is cached.

        Args:
            cache_path: folder for downloads.
            tokenizer: the run's tokenizer, for steps that need it.
        """
        tokenizer = tokenizer or RunTokenizer()
        return [_stage(name, step, cache_path, tokenizer) for name, step in self.active_steps.items()]


def _stage(name: str, step: Step, cache_path: Path, tokenizer: RunTokenizer) -> Stage:
    depends_on: dict[str, Any] = {"step": describe(step, {"weight"}), "name": name}
    if "tokenizer" in step.needs:
        depends_on["tokenizer"] = tokenizer.fingerprint()
    if "data" in step.needs:
        depends_on["data"] = step.data_fingerprint(cache_path)

    def build(before: Entry | None, folder: Path, audit: Audit) -> dict[str, Any]:
        assert before is not None
        before_step = tables(before)
        sizes = {}
        for split in SPLIT_NAMES:
            rows, path = before_step[split], split_path(folder, split)
            if split not in step.splits or not len(rows):
                link(rows.path, path)
                sizes[str(split)] = len(rows)
                continue
            context = Context(
                stage=f"preprocessing/{split}/{name}",
                audit=audit,
                split=split,
                splits=before_step if "splits" in step.needs else {},
                tokenizer=functools.cache(tokenizer.load) if "tokenizer" in step.needs else no_tokenizer,
                cache_path=cache_path,
            )
            with stage(f"{split} split", len(rows), "row"):
                sizes[str(split)] = _write(path, step, rows, context)
            audit.rows(context.stage, len(rows), sizes[str(split)])
        return {"splits": sizes}

    return audited_stage(f"preprocessing/{name}", depends_on, build, f"preprocessing, step {name}")


def _write(path: Path, step: Step, rows: ConversationTable, context: Context) -> int:
    """Apply a step to the rows of one split, write the resulting rows to a file, and return their number."""
    if step.row_by_row:
        apply = _Apply(step, rows, context.stage, context.split, context.cache_path)
        with ConversationWriter(path) as writer:
            for batch, (changed, audit) in zip(
                rows.batches, map_in_order(apply, range(len(rows.batches))), strict=True
            ):
                writer.write_batch(batch if changed is None else changed)
                advance(batch.num_rows)
                context.audit.absorb(audit)
        return writer.num_rows
    flags = step.flags(rows, context)
    return write_conversations(path, step.apply(rows, context)) if flags is None else write_flagged(rows, flags, path)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """A function that applies a step to one batch of a split's rows; its argument is the index of the batch.

    It returns the batch after the step (`None` if no row changed), and an audit of what the step did to the batch.
    """

    step: Step
    rows: ConversationTable
    stage: str
    split: str
    cache_path: Path

    def __call__(self, number: int) -> tuple[pyarrow.RecordBatch | None, Audit]:
        context = Context(self.stage, Audit(), self.split, cache_path=self.cache_path)
        followed = _Followed()

        def apply(rows: list[Conversation]) -> Iterable[Conversation]:
            followed.extend(rows)
            return self.step.apply(followed, context)

        try:
            return rewrite_batch(self.rows.batches[number], apply), context.audit
        except LimitExceeded as error:
            raise error.at(f"{self.stage}, {followed.current.where}" if followed.current else self.stage) from error


class _Followed(list[Conversation]):
    """A list of rows; `current` is the row that an iteration over it has reached, so that an error can name the row."""

    current: Conversation | None = None

    def __iter__(self) -> Iterator[Conversation]:
        for self.current in super().__iter__():
            yield self.current
