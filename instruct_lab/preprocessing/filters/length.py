"""Limits on length, in characters, words or tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, filter_rows, part_text, train_only
from instruct_lab.preprocessing.filters.words import split_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Fewest = Annotated[int, Field(ge=0)]
Most = Annotated[int, Field(ge=1)] | None
UNITS = ("characters", "words", "tokens")
BATCH_ROWS, BATCH_CHARACTERS = 256, 1 << 20
"""Number of rows or characters after which the collected rows are tokenized in one call."""


@component
class Length(Step):
    """Drops conversations that are too short or too long, in characters, words or tokens.

    Tokens are counted with the run's tokenizer, without the text that a template adds. In scripts without spaces, each
    character is a word. For a preference pair, both texts must be within the limits: the one with the chosen answer and
    the one with the rejected answer.
    """

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    of: Part = "conversation"  # the part that is measured
    min_characters: Fewest = 0  # minimum number of characters
    max_characters: Most = None  # maximum number of characters; null: no bound
    min_words: Fewest = 0  # minimum number of words
    max_words: Most = None  # maximum number of words; null: no bound
    min_tokens: Fewest = 0  # minimum number of tokens
    max_tokens: Most = None  # maximum number of tokens; null: no bound

    def __post_init__(self) -> None:
        """Refuse a minimum above the maximum, which would drop every row."""
        for unit in UNITS:
            fewest, most = self._bounds(unit)
            if most is not None and fewest > most:
                raise Refusal(f"min_{unit}", f"is above max_{unit} ({most}), so every row would be dropped")

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """What the step needs: the run's tokenizer if the number of tokens is limited."""
        return frozenset({"tokenizer"} if self._limits("tokens") else ())

    @property
    def row_by_row(self) -> bool:  # type: ignore[override]
        """Whether several processes can each process some of the rows; true unless the step needs the tokenizer."""
        return not self._limits("tokens")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations whose lengths are within the limits.

        The audit counts each dropped conversation once, under the first limit that it violates.
        """
        within = filter_rows(conversations, context, self._reason)
        return self._filter_by_tokens(within, context) if self._limits("tokens") else within

    def _reason(self, conversation: Conversation) -> str | None:
        texts = _texts(conversation, self.of)
        if reason := self._outside("characters", [len(text) for text in texts]):
            return reason
        return self._outside("words", [len(split_words(text)) for text in texts]) if self._limits("words") else None

    def _filter_by_tokens(self, conversations: Iterator[Conversation], context: Context) -> Iterator[Conversation]:
        tokenizer = context.tokenizer()
        waiting: list[tuple[Conversation, list[str]]] = []
        num_characters = 0
        for conversation in conversations:
            texts = _texts(conversation, self.of)
            waiting.append((conversation, texts))
            num_characters += sum(map(len, texts))
            if len(waiting) >= BATCH_ROWS or num_characters >= BATCH_CHARACTERS:
                yield from self._filter_batch(waiting, context, tokenizer)
                waiting, num_characters = [], 0
        yield from self._filter_batch(waiting, context, tokenizer)

    def _filter_batch(
        self, rows: list[tuple[Conversation, list[str]]], context: Context, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[Conversation]:
        lengths = iter(num_tokens(tokenizer, [text for _, texts in rows for text in texts]))
        for conversation, texts in rows:
            reason = self._outside("tokens", [next(lengths) for _ in texts])
            if reason is None:
                yield conversation
            else:
                context.count_dropped(reason, conversation)

    def _outside(self, unit: str, lengths: list[int]) -> str | None:
        fewest, most = self._bounds(unit)
        if min(lengths) < fewest:
            return f"{self.of} under {fewest} {unit}"
        if most is not None and max(lengths) > most:
            return f"{self.of} over {most} {unit}"
        return None

    def _bounds(self, unit: str) -> tuple[int, int | None]:
        return getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")

    def _limits(self, unit: str) -> bool:
        return self._bounds(unit) != (0, None)


def _texts(conversation: Conversation, part: Part) -> list[str]:
    """Return the text of a part of a conversation.

    A preference pair has two texts if the part contains the answer: one with the chosen and one with the rejected
    answer.
    """
    if part == "prompt" or not conversation.rejected:
        return [part_text(conversation, part)]
    rejected = [message.content for message in conversation.rejected]
    before = [part_text(conversation, "prompt")] if part == "conversation" else []
    return [part_text(conversation, part), "\n".join([*before, *rejected])]


def num_tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """Count the tokens of each text; the name of a special token, such as `<s>`, counts as ordinary text."""
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]
    before = backend.encode_special_tokens
    backend.no_truncation()  # transformers sets truncation and padding again in each of its calls
    backend.no_padding()
    backend.encode_special_tokens = True
    try:
        return list(map(len, backend.encode_batch_fast(texts, add_special_tokens=False)))
    finally:
        backend.encode_special_tokens = before
