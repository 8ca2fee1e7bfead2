"""The base class of preprocessing steps, and functions that several steps use."""

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
    """Return all splits: the default of the field `splits` in steps that repair rows."""
    return ["train", "validation", "test"]


def train_only() -> list[SplitName]:
    """Return `["train"]`: the default of the field `splits` in steps that select rows.

    With this default, validation and test stay complete.
    """
    return ["train"]


def no_tokenizer() -> PreTrainedTokenizerBase:
    """Raise the error for a step that asks for the tokenizer although it does not list `tokenizer` in `needs`."""
    raise RuntimeError("This step uses the tokenizer but does not list 'tokenizer' in `needs`")


@dataclasses.dataclass(frozen=True)
class Context:
    """The audit and the other data that a step may use besides its own rows.

    Args:
        stage: name of the step in the audit, `preprocessing/<split>/<step>`.
        audit: audit in which the step counts changed, dropped and added rows.
        split: the split being processed.
        splits: the rows of all splits, as they were before this step; empty unless the step's `needs` has `splits`.
        tokenizer: function that returns the run's tokenizer; raises an error unless the step's `needs` has `tokenizer`.
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
        """Count a row that the step adds as a changed copy of another row."""
        self.audit.record(self.stage, "added", reason, before, after)


@component
class Step(Component, ABC):
    """A pass over a split's conversations, in which rows are changed, dropped or added, and counted in the audit.

    A data set may be larger than memory. So a step reads one row after another, and keeps at most a few bytes per row.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the step needs besides one pass over the rows of its split.

    `rows`: several passes, or access by index; `splits`: the rows of the other splits; `tokenizer`: the run's
    tokenizer; `data`: files or packages, which `data_fingerprint` identifies.
    """

    row_by_row: ClassVar[bool] = False
    """Whether each resulting row depends only on one input row, so that each process can handle some of the rows.

    Such a step must yield an unchanged row as the same object, and may add to the audit only counts that can be summed.
    """

    weight: float = 0.0  # steps run in order of weight; steps of equal weight run in the order of the config
    splits: Splits = Field(default_factory=every_split)  # splits that the step processes

    @abstractmethod
    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations of the split after this step, in order.

        Args:
            conversations: the split's rows; iterate over them only once, unless the attribute `needs` contains `rows`.
            context: the audit and the other data that the step may use.
        """

    def flags(self, conversations: Sequence[Conversation], context: Context) -> bytearray | None:
        """Return a flag for each row (1: keep, 0: drop); `None` if the step has to process the rows by `apply`.

        A step that only drops rows can return flags. The kept rows are then copied as bytes, which is faster than to
        read and to write each conversation.
        """
        return None

    def data_fingerprint(self, cache_path: Path) -> str:
        """Return a hash or version of the files or packages that the step uses.

        It is empty for a step that uses none, whose `needs` does not contain `data`.
        """
        return ""


def part_text(conversation: Conversation, part: Part) -> str:
    """Return the text of a part of a conversation: of all messages, of the prompt, or of the final answer.

    Several messages are joined by newlines.
    """
    if part == "answer":
        return conversation.answers[0] if conversation.answers else ""
    messages = conversation.messages if part == "conversation" else conversation.prompt
    return "\n".join(message.content for message in messages)


def filter_rows(
    conversations: Iterable[Conversation], context: Context, reason_to_drop: Callable[[Conversation], str | None]
) -> Iterator[Conversation]:
    """Yield the conversations for which `reason_to_drop` returns `None`.

    The others are dropped, and the audit counts them under the reason that `reason_to_drop` returned.
    """
    for conversation in conversations:
        reason = reason_to_drop(conversation)
        if reason is None:
            yield conversation
        else:
            context.count_dropped(reason, conversation)
