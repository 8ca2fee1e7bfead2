"""Too short and too long, in characters, words or tokens; and what a word is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.data.words import HAN, KANA, MARKS, SOUTHEAST_ASIAN, UNSPACED
from instruct_lab.errors import Refusal
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, kept, part_text, train_alone

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Fewest = Annotated[int, Field(ge=0)]
Most = Annotated[int, Field(ge=1)] | None
UNITS = ("characters", "words", "tokens")
BATCH_ROWS, BATCH_CHARACTERS = 256, 1 << 20
"""Rows that are tokenized in one call, at most."""

STOPS = "\u3000-\u3004\u3008-\u3030\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
WORD = re.compile(f"[{HAN}{KANA}]|[{SOUTHEAST_ASIAN}][{MARKS}]*|[^\\s{HAN}{KANA}{SOUTHEAST_ASIAN}{STOPS}]+")


def words(text: str) -> list[str]:
    """The words of a text: what stands between white space.

    Scripts that put no space between words are counted by character: each Chinese or Japanese one is a word, and each
    Thai, Lao, Burmese or Khmer letter with the marks around it. Chinese and Japanese punctuation is none.
    """
    if text.isascii() or not UNSPACED.search(text):
        return text.split()
    return WORD.findall(text)


@component
class Length(Step):
    """Drops conversations that are shorter or longer than wanted, in characters, words or tokens.

    Tokens are those of the run's tokenizer, of the text alone: what a template adds is not counted. Words are told by
    `words`. Of a preference pair, what is rejected has to fit too.
    """

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    of: Part = "conversation"  # what is measured
    min_characters: Fewest = 0  # fewest characters that stay
    max_characters: Most = None  # most characters that stay; null: no bound
    min_words: Fewest = 0  # fewest words that stay
    max_words: Most = None  # most words that stay; null: no bound
    min_tokens: Fewest = 0  # fewest tokens that stay
    max_tokens: Most = None  # most tokens that stay; null: no bound

    def __post_init__(self) -> None:
        """Refuse bounds that let nothing through."""
        for unit in UNITS:
            fewest, most = self._bounds(unit)
            if most is not None and fewest > most:
                raise Refusal(f"min_{unit}", f"is above max_{unit} ({most}), so nothing would stay")

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """The tokenizer, where tokens are counted."""
        return frozenset({"tokenizer"} if self._counts("tokens") else ())

    @property
    def row_by_row(self) -> bool:  # type: ignore[override]
        """Where no tokenizer is needed."""
        return not self._counts("tokens")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the conversations within the bounds; counts the others."""
        within = kept(conversations, context, self._reason)
        return self._by_tokens(within, context) if self._counts("tokens") else within

    def _reason(self, conversation: Conversation) -> str | None:
        texts = _texts(conversation, self.of)
        if reason := self._outside("characters", [len(text) for text in texts]):
            return reason
        return self._outside("words", [len(words(text)) for text in texts]) if self._counts("words") else None

    def _by_tokens(self, conversations: Iterator[Conversation], context: Context) -> Iterator[Conversation]:
        tokenizer = context.tokenizer()
        waiting: list[tuple[Conversation, list[str]]] = []
        num_characters = 0
        for conversation in conversations:
            texts = _texts(conversation, self.of)
            waiting.append((conversation, texts))
            num_characters += sum(map(len, texts))
            if len(waiting) >= BATCH_ROWS or num_characters >= BATCH_CHARACTERS:
                yield from self._tokenized(waiting, context, tokenizer)
                waiting, num_characters = [], 0
        yield from self._tokenized(waiting, context, tokenizer)

    def _tokenized(
        self, rows: list[tuple[Conversation, list[str]]], context: Context, tokenizer: PreTrainedTokenizerBase
    ) -> Iterator[Conversation]:
        lengths = iter(num_tokens(tokenizer, [text for _, texts in rows for text in texts]))
        for conversation, texts in rows:
            reason = self._outside("tokens", [next(lengths) for _ in texts])
            if reason is None:
                yield conversation
            else:
                context.dropped(reason, conversation)

    def _outside(self, unit: str, lengths: list[int]) -> str | None:
        fewest, most = self._bounds(unit)
        if min(lengths) < fewest:
            return f"{self.of} under {fewest} {unit}"
        if most is not None and max(lengths) > most:
            return f"{self.of} over {most} {unit}"
        return None

    def _bounds(self, unit: str) -> tuple[int, int | None]:
        return getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")

    def _counts(self, unit: str) -> bool:
        return self._bounds(unit) != (0, None)


def _texts(conversation: Conversation, part: Part) -> list[str]:
    """The text of a part; of a preference pair also with what is rejected in the place of what is chosen."""
    if part == "prompt" or not conversation.rejected:
        return [part_text(conversation, part)]
    rejected = [message.content for message in conversation.rejected]
    before = [part_text(conversation, "prompt")] if part == "conversation" else []
    return [part_text(conversation, part), "\n".join([*before, *rejected])]


def num_tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[int]:
    """How many tokens each text has; text that spells a special token is ordinary text."""
    if not texts:
        return []
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]
    before = backend.encode_special_tokens
    backend.no_truncation()  # transformers leaves here what its last call asked for
    backend.no_padding()
    backend.encode_special_tokens = True
    try:
        return list(map(len, backend.encode_batch_fast(texts, add_special_tokens=False)))
    finally:
        backend.encode_special_tokens = before
