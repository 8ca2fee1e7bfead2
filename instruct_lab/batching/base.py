"""What travels from text to the model: examples and batches."""

from __future__ import annotations

import dataclasses
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from instruct_lab.config import Component
from instruct_lab.data import Audit, Conversation
from instruct_lab.template import Template

if TYPE_CHECKING:
    from torch import Tensor, device
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""The label of a token that is not trained."""


Reads = Literal["answers", "text", "pairs"]
"""What an objective reads of a conversation.

- `answers`: the whole conversation; the answers are trained, as the template marks them.
- `text`: the whole conversation as one text; every token of it may be trained.
- `pairs`: two conversations that share a prompt, one with the chosen and one with the rejected answer.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How examples are laid out: what the objective reads, for which model family.

    - decoder: `input_ids` is the whole text and `labels` stands beside it, unshifted; the first label is ignored.
    - encoder-decoder: `answers` and `pairs`: `input_ids` is the prompt and `labels` the answer with its end token, of
      another length, none ignored. `text`: `input_ids` is the whole text, and `labels` repeats it.
    - encoder: `input_ids` is the whole text between the tokenizer's own special tokens; `labels` stands beside it and
      is ignored at those special tokens.
    """

    reads: Reads = "answers"
    family: str = "decoder"


SUPERVISED_DECODER = Layout()


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """Token ids and labels of one conversation, `-100` where not trained; `Layout` says how they stand to each other.

    Args:
        input_ids: what the model reads.
        labels: what it predicts, unshifted.
        id: the conversation's.
        source: the conversation's.
        weights: how much each label counts, in the layout of `labels`; none: 1 each.
        rejected: the same prompt with the answer that is not wanted, where the layout is of pairs.
        reference: log-probabilities, in nats, of the labels and of the rejected labels under the untuned model, where
            they were computed before training.
    """

    input_ids: list[int]
    labels: list[int]
    id: str = ""
    source: str = ""
    weights: list[float] | None = None
    rejected: Example | None = None
    reference: tuple[float, float] | None = None

    @property
    def num_target_tokens(self) -> int:
        """How many tokens are predicted, those of the rejected answer not counted."""
        return len(self.labels) - self.labels.count(IGNORED)

    @property
    def has_target_tokens(self) -> bool:
        """Whether any token is predicted; looked for from the end, where answers stand."""
        return any(label != IGNORED for label in reversed(self.labels))


@dataclasses.dataclass(slots=True)  # not frozen: Lightning's `convert_input` copies a batch field by field
class Batch:
    """Padded tensors of several examples.

    Pairs stand in twice as many rows: first all chosen, then, in the same order, all rejected.

    Args:
        input_ids: int64 `[rows, seq]`.
        attention_mask: int64 `[rows, seq]`, by length.
        labels: int64 `[rows, seq]`; for encoder-decoder models `[rows, target_seq]`.
        sources: the source of each example, `[examples]`.
        weights: float32, in the shape of `labels`; none: 1 each.
        reference: float32 `[examples, 2]`, log-probabilities of the chosen and of the rejected labels under the untuned
            model, in nats; none: not computed before.
        is_paired: whether rows are pairs.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    sources: list[str] = dataclasses.field(default_factory=list)
    weights: Tensor | None = None
    reference: Tensor | None = None
    is_paired: bool = False

    def to(self, device: device | str, **options: Any) -> Batch:
        """The batch on a device; Lightning calls it."""
        moved = {
            field.name: value.to(device, **options) if hasattr(value, "to") else value
            for field in dataclasses.fields(self)
            for value in [getattr(self, field.name)]
        }
        return Batch(**moved)

    def rows(self, start: int, end: int) -> Batch:
        """Some of the rows as a batch of its own, no longer paired."""
        return Batch(
            input_ids=self.input_ids[start:end],
            attention_mask=self.attention_mask[start:end],
            labels=self.labels[start:end],
            sources=self.sources[start:end],
            weights=None if self.weights is None else self.weights[start:end],
        )

    @property
    def chosen(self) -> Batch:
        """The rows of the chosen answers; all rows where there are no pairs."""
        return self.rows(0, len(self.input_ids) // 2) if self.is_paired else self

    @property
    def rejected(self) -> Batch:
        """The rows of the rejected answers, where there are pairs."""
        return self.rows(len(self.input_ids) // 2, len(self.input_ids))


Drawn = Callable[[Example, random.Random], Example]
"""An example as it is put into a batch this time, by a source of chance of its own."""


class Loader(Protocol):
    """An epoch of batches after another, in an order whose position can be saved."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...

    def state_dict(self) -> dict[str, int]:
        """The position, in batches given out so far."""

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue there."""


class Batching(Component, ABC):
    """Segments to examples, examples to batches."""

    loading_fields: ClassVar[frozenset[str]] = frozenset({"batch_size", "evaluation_batch_size"})
    """Fields that decide how examples are put together and not what they are."""

    batch_size: int
    evaluation_batch_size: int

    @abstractmethod
    def encode(
        self,
        conversations: Iterable[Conversation],
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        audit: Audit,
        split: str,
        layout: Layout = SUPERVISED_DECODER,
    ) -> Iterator[Example]:
        """Token ids and labels of every conversation that can be used, in order; holds a bounded number at a time.

        What becomes of a conversation depends on it alone: a split is encoded part by part, by several processes.

        Args:
            conversations: what to encode.
            template: gives the text and says what is trained.
            tokenizer: gives the ids.
            audit: counts what is cut or left out, with its reason, at stage `batching`.
            split: named in the reasons.
            layout: what the objective reads, for which model family.

        Raises:
            InstructLabError: the template or the tokenizer cannot be used, or an overlong conversation is an error.
        """

    @abstractmethod
    def encode_prompts(
        self,
        conversations: Sequence[Conversation],
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        layout: Layout = SUPERVISED_DECODER,
    ) -> list[list[int]]:
        """Token ids up to the header that opens the final answer: a prefix of the example's ids."""

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """Examples as one batch; the attention mask is by length, never by pad id."""

    @abstractmethod
    def loader(
        self,
        examples: Sequence[Example],
        *,
        seed: int,
        shuffle: bool,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        pad_token_id: int | None = None,
        drawn: Drawn | None = None,
    ) -> Loader:
        """Batches of one device's share of the examples, each as `drawn` gives it this time."""
