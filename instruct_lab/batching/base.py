"""What every batching shares: encoding conversations, handling overlong ones, and the resumable loader."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instruct_lab.batching.batch import Batch
from instruct_lab.batching.example import SUPERVISED_DECODER, Example, ExampleTransform, Layout
from instruct_lab.batching.layouts import LayoutEncoder, layout_encoder
from instruct_lab.batching.loader import BatchLoader
from instruct_lab.batching.overlong import Overlong, shorten
from instruct_lab.config import Component, component
from instruct_lab.data import Audit, Conversation
from instruct_lab.errors import InstructLabError
from instruct_lab.template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STAGE = "batching"
CHUNK = 1000
"""Conversations that are rendered and encoded together."""


@component
class Batching(Component, ABC):
    """Conversations to examples, and examples to batches.

    Encoding, the length limit and the order of examples are the same for every batching; a subclass says how examples
    become one batch. Every conversation that is cut or left out is counted in the audit. An example without a target
    token is never used.
    """

    batch_size: Annotated[int, Field(ge=1)] = 8  # examples per device and micro-batch, in training
    evaluation_batch_size: Annotated[int, Field(ge=1)] = 16  # examples per device and batch, in evaluation
    max_tokens: Annotated[int, Field(ge=2)] | None = 1024  # tokens of the longest example; null: no limit
    overlong: Overlong = "drop"  # longer ones: error, drop, truncate_prompt (its middle), truncate_response (its end)

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """Examples as one batch; the attention mask is by length, never by pad id."""

    @property
    def groups_by_length(self) -> bool:
        """Whether training batches hold examples of similar length."""
        return False

    def encoding_settings(self) -> dict[str, Any]:
        """What decides the examples, for the key of their cache; a class that overrides `encode` adds its own."""
        return {"max_tokens": self.max_tokens, "overlong": self.overlong}

    def encode(
        self,
        conversations: Iterable[Conversation],
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        audit: Audit,
        split: str,
        layout: Layout = SUPERVISED_DECODER,
    ) -> Iterator[Example]:
        """Token ids and labels of every usable conversation, in order; keeps a limited number in memory.

        Each result depends only on its own conversation, so several processes can encode parts of a split.

        Args:
            conversations: what to encode.
            template: gives the text and says what is trained.
            tokenizer: gives the ids.
            audit: counts what is cut or left out, with its reason, at stage `batching`.
            split: named in the reasons.
            layout: what the objective reads, and the model family.

        Raises:
            InstructLabError: the template or the tokenizer cannot be used, or an overlong conversation is an error.
        """
        encoder = layout_encoder(layout, template, tokenizer)
        rows_in = rows_out = 0
        rows = iter(conversations)
        while chunk := list(itertools.islice(rows, CHUNK)):
            rows_in += len(chunk)
            for conversation, example in zip(chunk, encoder.encode(chunk), strict=True):
                if example is None:
                    audit.record(STAGE, "dropped", f"{split}: {encoder.nothing}", conversation)
                    continue
                fitting: Example | None = example
                if max(encoder.excess(example, self.max_tokens)) > 0:
                    fitting = self._fit(conversation, example, encoder, audit, split)
                if fitting is None:
                    continue
                if not fitting.has_target_tokens:
                    audit.record(STAGE, "dropped", f"{split}: no target token", conversation)
                    continue
                rows_out += 1
                yield fitting
        audit.rows(STAGE, rows_in, rows_out)

    def encode_prompts(
        self,
        conversations: Sequence[Conversation],
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        layout: Layout = SUPERVISED_DECODER,
    ) -> list[list[int]]:
        """Token ids up to the header that opens the final answer: a prefix of the (possibly cut) example's ids."""
        encoder = layout_encoder(layout, template, tokenizer)
        return encoder.prompts(self._cut_to_fit(conversations, encoder))

    def loader(
        self,
        examples: Sequence[Example],
        *,
        training: bool,
        seed: int,
        pad_token_id: int | None,
        rank: int = 0,
        world_size: int = 1,
        transform: ExampleTransform | None = None,
    ) -> BatchLoader:
        """Batches of one device's share of the examples.

        Args:
            examples: all examples, the same on every device.
            training: whether to shuffle and use `batch_size`; else the given order and `evaluation_batch_size`.
            seed: of the order and of `transform`.
            pad_token_id: fills up `input_ids`; `None`: 0.
            rank: this device's number.
            world_size: number of devices.
            transform: changes each example every time it is used.
        """
        return BatchLoader(
            examples,
            lambda batch: self.collate(batch, pad_token_id),
            batch_size=self.batch_size if training else self.evaluation_batch_size,
            seed=seed,
            shuffle=training,
            group_by_length=self.groups_by_length,
            rank=rank,
            world_size=world_size,
            transform=transform,
        )

    def _fit(
        self, conversation: Conversation, example: Example, encoder: LayoutEncoder, audit: Audit, split: str
    ) -> Example | None:
        """An overlong example as `overlong` says: cut, or `None` if it is dropped."""
        limit = self.max_tokens
        assert limit is not None
        if self.overlong == "error":
            tokens = limit + max(encoder.excess(example, limit))
            raise InstructLabError(
                f"A conversation of the {split} split has {tokens} tokens, more than {limit}",
                where=f"conversation {conversation.id or '(unnamed)'}: {str(conversation)[:80]!r}",
                do="raise batching.max_tokens, or set batching.overlong to drop, truncate_prompt or truncate_response",
            )
        if self.overlong == "drop" or example.rejected is not None:
            audit.record(STAGE, "dropped", f"{split}: longer than {limit} tokens", conversation)
            return None
        short = shorten(conversation, self.overlong, limit, encoder)
        if short is None:
            what = "prompt" if self.overlong == "truncate_prompt" else "response"
            reason = f"{split}: longer than {limit} tokens even with the {what} cut"
            audit.record(STAGE, "dropped", reason, conversation)
            return None
        part = "middle of the prompt" if self.overlong == "truncate_prompt" else "end of the response"
        audit.record(STAGE, "truncated", f"{split}: {part} cut to fit {limit} tokens", short.before, short.after)
        return short.example

    def _cut_to_fit(self, conversations: Sequence[Conversation], encoder: LayoutEncoder) -> list[Conversation]:
        """The conversations, each cut as its example is."""
        if self.max_tokens is None or self.overlong in ("error", "drop"):
            return list(conversations)
        cut = []
        for conversation, example in zip(conversations, encoder.encode(conversations), strict=True):
            short = None
            if example is not None and not example.rejected and max(encoder.excess(example, self.max_tokens)) > 0:
                short = shorten(conversation, self.overlong, self.max_tokens, encoder)
            cut.append(short.conversation if short is not None else conversation)
        return cut
