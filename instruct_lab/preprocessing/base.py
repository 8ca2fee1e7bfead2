"""The base class of preprocessing steps, and what they share."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import Component, component
from instruct_lab.data import Audit, Conversation, SplitName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Splits = Annotated[list[SplitName], Field(min_length=1)]
Part = Literal["conversation", "prompt", "answer"]
Need = Literal["rows", "splits", "tokenizer", "data"]


def every_split() -> list[SplitName]:
    """The default of steps that repair rows."""
    return ["train", "validation", "test"]


def train_only() -> list[SplitName]:
    """The default of steps that select rows: validation and test stay complete."""
    return ["train"]


def no_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of a step that does not declare that it needs one."""
    raise RuntimeError("This step uses the tokenizer but does not list 'tokenizer' in `needs`")


@dataclasses.dataclass(frozen=True)
class Context:
    """What a step may use besides its own rows.

    Args:
        stage: the audit's name for the step: `preprocessing/<split>/<step>`.
        audit: counts what the step does.
        split: the split being processed.
        splits: every split before this step; only for steps that need `splits`.
        tokenizer: returns the run's tokenizer; only for steps that need it.
        cache_path: folder for downloads.
    """

    stage: str
    audit: Audit
    split: str = "train"
    splits: Mapping[str, Sequence[Conversation]] = dataclasses.field(default_factory=dict)
    tokenizer: Callable[[], PreTrainedTokenizerBase] = no_tokenizer
    cache_path: Path = Path("cache")

    def count_dropped(self, reason: str, conversation: object) -> None:
        """Count a row that the step drops."""
        self.audit.record(self.stage, "dropped", reason, conversation)

    def count_changed(self, reason: str, before: object, after: object) -> None:
        """Count a row that the step changes."""
        self.audit.record(self.stage, "changed", reason, before, after)

    def count_added(self, reason: str, before: object, after: object) -> None:
        """Count a row that the step makes from another, which it keeps too."""
        self.audit.record(self.stage, "added", reason, before, after)


@component
class Step(Component, ABC):
    """One pass over the conversations of a split: maps, drops, splits or adds them, and counts what it does.

    Data sets may be larger than memory: a step keeps one row at a time, or a few bytes per row.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the step uses besides one pass over its rows: `rows` several times or by index, the other `splits`, the
    `tokenizer`, other `data` on disk or from packages (see `data_fingerprint`)."""

    row_by_row: ClassVar[bool] = False
    """Whether each result depends only on its own row: then several processes work on parts of the rows. An unchanged
    row must be yielded as the same object, and facts added to the audit must be counts that can be summed."""

    weight: float = 0.0  # steps run in order of weight, equal ones in the order of the config
    splits: Splits = Field(default_factory=every_split)  # splits that the step processes

    @abstractmethod
    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the resulting conversations, in order.

        Args:
            conversations: the split's rows; iterated over once, unless the step needs `rows`.
            context: what else the step may use.
        """

    def flags(self, conversations: Sequence[Conversation], context: Context) -> bytearray | None:
        """For a step that only selects rows: 1 for each row that it keeps, else 0; `None` for other steps."""
        return None

    def data_fingerprint(self, cache_path: Path) -> str:
        """A hash of the other data that the step reads (a benchmark, a word list); for steps that need `data`."""
        return ""


def part_text(conversation: Conversation, part: Part) -> str:
    """The text of a part of a conversation: messages joined by newlines, or the final answer."""
    if part == "answer":
        return conversation.answers[0] if conversation.answers else ""
    messages = conversation.messages if part == "conversation" else conversation.prompt
    return "\n".join(message.content for message in messages)


def filter_rows(
    conversations: Iterable[Conversation], context: Context, reason_to_drop: Callable[[Conversation], str | None]
) -> Iterator[Conversation]:
    """Yield the conversations without a reason to drop them; the others are counted by their reason."""
    for conversation in conversations:
        reason = reason_to_drop(conversation)
        if reason is None:
            yield conversation
        else:
            context.count_dropped(reason, conversation)
