"""What a preprocessing step is."""

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
    """The default of steps that mend rows."""
    return ["train", "validation", "test"]


def train_alone() -> list[SplitName]:
    """The default of steps that choose rows: what is measured on stays whole."""
    return ["train"]


def no_tokenizer() -> PreTrainedTokenizerBase:
    """Stands where a step has declared no need of a tokenizer."""
    raise RuntimeError("this step does not declare that it needs the tokenizer")


@dataclasses.dataclass(frozen=True)
class Context:
    """What a step may use beside its own rows.

    Args:
        stage: the name that the audit counts under: `preprocessing/<split>/<step>`.
        audit: counts what the step does.
        split: the split that passes through.
        splits: every split as it stands before this step; only for steps that need `splits`.
        tokenizer: gives the run's tokenizer; only for steps that need it.
        cache_path: folder for what is downloaded.
    """

    stage: str
    audit: Audit
    split: str = "train"
    splits: Mapping[str, Sequence[Conversation]] = dataclasses.field(default_factory=dict)
    tokenizer: Callable[[], PreTrainedTokenizerBase] = no_tokenizer
    cache_path: Path = Path("cache")

    def dropped(self, reason: str, conversation: object) -> None:
        """Count a row that does not go on."""
        self.audit.record(self.stage, "dropped", reason, conversation)

    def changed(self, reason: str, before: object, after: object) -> None:
        """Count a row that goes on in another form."""
        self.audit.record(self.stage, "changed", reason, before, after)

    def added(self, reason: str, before: object, after: object) -> None:
        """Count a row that the step made out of another, which goes on too."""
        self.audit.record(self.stage, "added", reason, before, after)


@component
class Step(Component, ABC):
    """One pass over the conversations of a split: maps, drops, splits or adds them, and counts what it does.

    Rows are many: a step holds one at a time, or a few bytes of each.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the step uses beside one pass over its rows: `rows` several times or by index, the other `splits`, the
    `tokenizer`, other `data` on disk or from packages (see `data_fingerprint`)."""

    row_by_row: ClassVar[bool] = False
    """Whether what becomes of a row depends on that row alone: then rows are worked on in parts, by several processes.
    A row that stays as it is must be yielded itself, and facts that it notes must be counts that add up."""

    weight: float = 0.0  # steps run in order of weight, and equal ones in the order of the config
    splits: Splits = Field(default_factory=every_split)  # which splits pass through

    @abstractmethod
    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations that go on, in order.

        Args:
            conversations: the split's rows; iterated over once, unless the step needs `rows`.
            context: what else the step may use.
        """

    def flags(self, conversations: Sequence[Conversation], context: Context) -> bytearray | None:
        """What `apply` does, of a step that only chooses rows: 1 for each row that goes on, and 0; None of others."""
        return None

    def data_fingerprint(self, cache_path: Path) -> str:
        """A hash of the other data that the step reads (a benchmark, a word list); of steps that need `data`."""
        return ""


def part_text(conversation: Conversation, part: Part) -> str:
    """The text of a part of a conversation; messages are joined by newlines, the answer is the last one's."""
    if part == "answer":
        return conversation.answers[0] if conversation.answers else ""
    messages = conversation.messages if part == "conversation" else conversation.prompt
    return "\n".join(message.content for message in messages)


def kept(
    conversations: Iterable[Conversation], context: Context, reason_to_drop: Callable[[Conversation], str | None]
) -> Iterator[Conversation]:
    """The conversations for which there is no reason to drop them; the others are counted under theirs."""
    for conversation in conversations:
        reason = reason_to_drop(conversation)
        if reason is None:
            yield conversation
        else:
            context.dropped(reason, conversation)


shown = str
