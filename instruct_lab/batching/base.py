"""The base class of batchings, which encode conversations, handle overlong ones, and build the resumable loader."""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instruct_lab.batching.batch import Batch
from instruct_lab.batching.blocks import ExampleBlocks
from instruct_lab.batching.example import SUPERVISED_DECODER, Example, ExampleTransform, Layout
from instruct_lab.batching.layouts import LayoutEncoder, layout_encoder
from instruct_lab.batching.loader import BatchLoader
from instruct_lab.batching.overlong import Overlong, shorten
from instruct_lab.batching.packing import Packing
from instruct_lab.batching.spelled_tokens import REASON, SpecialTokensInText, spells_special_token
from instruct_lab.batching.token_budget import batches_by_length, widths_of
from instruct_lab.config import Component, component
from instruct_lab.data import Audit, Conversation
from instruct_lab.errors import InstructLabError
from instruct_lab.template import RefusedConversation, Template

if TYPE_CHECKING:
    import numpy
    from transformers import PreTrainedTokenizerBase

STAGE = "batching"
SETTING = "batching.max_tokens"
"""Config key of the length limit, which the audit names in the reasons for cut and dropped examples."""
CHUNK = 1000
"""Number of conversations that are rendered and encoded together."""


@component
class Batching(Component, ABC):
    """Base class of batchings, which encode conversations as examples and join examples into batches.

    Encoding, the length limit and the order of examples are the same for every batching; a subclass defines how
    examples become one batch. Every conversation that is cut or dropped is counted in the audit (the run's report on
    its data). An example without a target token is never used.
    """

    batch_size: Annotated[int, Field(ge=1)] = 8  # number of examples of a training batch on each device
    micro_batch: Annotated[int, Field(ge=1)] | Literal["auto"] = (
        "auto"  # maximum number of examples that are computed at once in training; auto: as many as the memory allows
    )
    max_tokens: Annotated[int, Field(ge=2)] | None = 1024  # maximum number of tokens in an example; null: no limit
    overlong: Overlong = "drop"  # error, drop, truncate_prompt (cuts its middle), truncate_response (cuts its end)

    special_tokens_in_text: SpecialTokensInText = "ordinary"  # in messages: ordinary text, or (parse) tokens

    @abstractmethod
    def collate(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """Join examples into one batch.

        The attention mask is computed from the lengths of the examples, not from the token ids. So a pad token that is
        part of a text is attended to.
        """

    @property
    def groups_by_length(self) -> bool:
        """Whether training batches hold examples of similar length."""
        return False

    @property
    def packing(self) -> Packing | None:
        """How the texts of a batch are joined into long rows; `None` if each text has its own padded row."""
        return None

    def encoding_settings(self) -> dict[str, Any]:
        """Return the settings that affect the encoded examples; they are part of the cache key of the examples.

        A subclass that overrides `encode` adds its own settings.
        """
        return {
            "max_tokens": self.max_tokens,
            "overlong": self.overlong,
            "special_tokens_in_text": self.special_tokens_in_text,
        }

    def layout_encoder(self, layout: Layout, template: Template, tokenizer: PreTrainedTokenizerBase) -> LayoutEncoder:
        """Return the encoder that turns conversations into examples with this layout."""
        return layout_encoder(layout, template, tokenizer, self.special_tokens_in_text == "parse")

    def encode(
        self,
        conversations: Iterable[Conversation],
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        audit: Audit,
        split: str,
        layout: Layout = SUPERVISED_DECODER,
        refused: list[RefusedConversation] | None = None,
    ) -> Iterator[Example]:
        """Encode every usable conversation, in order; only a limited number of conversations is in memory at a time.

        Each example depends only on its own conversation, so several processes can encode parts of a split.

        Args:
            conversations: the conversations to encode.
            template: template that renders the text and marks the segments to train on.
            tokenizer: tokenizer of the model.
            audit: report on the data, in which cut and dropped conversations are counted by reason, under the stage
                `batching`.
            split: name of the split, which is part of the reasons in the audit.
            layout: the layout of the examples, which fits the objective's input and the model family.
            refused: list to which the template's error is appended for each conversation that it cannot render; the
                audit counts these conversations as broken rows. With `None`, the first such error is raised.

        Raises:
            InstructLabError: the template or the tokenizer cannot be used, or a conversation is too long and the field
                `overlong` is `error`.
        """
        encoder = self.layout_encoder(layout, template, tokenizer)
        rows_in = rows_out = 0
        rows = iter(conversations)
        while chunk := list(itertools.islice(rows, CHUNK)):
            rows_in += len(chunk)
            for conversation, example in zip(chunk, _encode_chunk(chunk, encoder), strict=True):
                if spells_special_token(conversation, tokenizer):
                    audit.record(STAGE, "reported", f"{split}: {REASON}", conversation)
                if isinstance(example, RefusedConversation):
                    if refused is None:
                        raise example
                    refused.append(example)
                    reason = f"{split}: broken row: {_summarize(example)}"
                    audit.record(STAGE, "dropped", reason, example, row=conversation)
                    continue
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
        """Return the token ids of each prompt, including the template's text that opens the answer.

        The example that `encode` makes of a conversation begins with the same ids. Overlong conversations are cut in
        the same way as in `encode`.
        """
        encoder = self.layout_encoder(layout, template, tokenizer)
        return encoder.prompts(self._cut_to_fit(conversations, encoder))

    def widths(self, examples: Sequence[Example]) -> numpy.ndarray:
        """Return the number of tokens of each sequence of each example, int64 `[examples, sequences]`.

        An example has one sequence; a preference pair has two, one for each answer. For an encoder-decoder, labels are
        padded separately, so each sequence of labels is counted too.
        """
        return widths_of(examples)

    def evaluation_batches(
        self, examples: Sequence[Example], batch_tokens: int, num_devices: int = 1, min_examples: int = 1
    ) -> list[numpy.ndarray]:
        """Divide examples into batches for an evaluation; a batch holds examples of similar length, the longest first.

        Args:
            examples: the examples of the split to evaluate.
            batch_tokens: maximum number of tokens of a batch on each device, with padding; a longer example forms a
                batch of its own.
            num_devices: number of devices that share each batch.
            min_examples: minimum number of examples of a batch on each device; it takes precedence over `batch_tokens`.

        Returns:
            The indices of the examples of each batch.
        """
        min_rows = min_examples * num_devices
        return batches_by_length(self.widths(examples), batch_tokens, num_devices=num_devices, min_rows=min_rows)

    def loader(
        self,
        examples: Sequence[Example] | ExampleBlocks,
        *,
        batch_tokens: int | None = None,
        min_examples: int = 1,
        seed: int,
        pad_token_id: int | None,
        rank: int = 0,
        world_size: int = 1,
        transform: ExampleTransform | None = None,
    ) -> BatchLoader:
        """Return a loader of one device's share of the examples.

        Args:
            examples: all examples, the same on every device, or a stream of blocks for training.
            batch_tokens: for evaluation, the maximum number of tokens of a batch, with padding. With `None`, the loader
                is for training, and yields shuffled batches of `batch_size` examples.
            min_examples: for evaluation, the minimum number of examples of a batch.
            seed: random seed for the order and for `transform`.
            pad_token_id: token that pads shorter rows of `input_ids`; `None` means 0.
            rank: index of this device, from 0.
            world_size: number of devices that share the examples.
            transform: function that is applied to an example each time the example is used.
        """
        fixed = None
        if batch_tokens is not None:
            assert not isinstance(examples, ExampleBlocks)
            fixed = self.evaluation_batches(examples, batch_tokens, world_size, min_examples)
        return BatchLoader(
            examples,
            lambda batch: self.divisible_batch(batch, pad_token_id),
            batch_size=self.batch_size,
            batches=fixed,
            seed=seed,
            group_by_length=self.groups_by_length,
            rank=rank,
            world_size=world_size,
            transform=transform,
        )

    def divisible_batch(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """Join examples into a batch that can later be divided into smaller batches."""
        batch = self.collate(examples, pad_token_id)
        batch.join = lambda start, end: self.divisible_batch(examples[start:end], pad_token_id)
        return batch

    def _fit(
        self, conversation: Conversation, example: Example, encoder: LayoutEncoder, audit: Audit, split: str
    ) -> Example | None:
        """Shorten an overlong example, drop it (return `None`) or raise an error, as the field `overlong` requires."""
        limit = self.max_tokens
        assert limit is not None
        too_long = f"longer than {limit:,} tokens ({SETTING})"
        if self.overlong == "error":
            tokens = limit + max(encoder.excess(example, limit))
            raise InstructLabError(
                f"A conversation of the {split} split has {tokens} tokens, more than {limit}",
                where=conversation.where,
                do="raise batching.max_tokens, or set batching.overlong to drop, truncate_prompt or truncate_response",
            )
        if self.overlong == "drop" or example.rejected is not None:
            audit.record(STAGE, "dropped", f"{split}: {too_long}", conversation)
            return None
        short = shorten(conversation, self.overlong, limit, encoder)
        if short is None:
            what = "prompt" if self.overlong == "truncate_prompt" else "response"
            audit.record(STAGE, "dropped", f"{split}: {too_long} even with the {what} cut", conversation)
            return None
        part = "middle of the prompt" if self.overlong == "truncate_prompt" else "end of the response"
        reason = f"{split}: {part} cut to fit {limit:,} tokens ({SETTING})"
        audit.record(STAGE, "truncated", reason, short.before, short.after)
        return short.example

    def _cut_to_fit(self, conversations: Sequence[Conversation], encoder: LayoutEncoder) -> list[Conversation]:
        """Return the conversations; those that are too long are cut in the same way as in `encode`.

        A conversation that cannot be cut, such as a preference pair, is returned unchanged. If the field `overlong` is
        `error` or `drop`, nothing is cut.
        """
        if self.max_tokens is None or self.overlong in ("error", "drop"):
            return list(conversations)
        cut = []
        for conversation, example in zip(conversations, encoder.encode(conversations), strict=True):
            short = None
            if example is not None and not example.rejected and max(encoder.excess(example, self.max_tokens)) > 0:
                short = shorten(conversation, self.overlong, self.max_tokens, encoder)
            cut.append(short.conversation if short is not None else conversation)
        return cut


def _encode_chunk(
    chunk: Sequence[Conversation], encoder: LayoutEncoder
) -> Sequence[Example | RefusedConversation | None]:
    """Encode a chunk of conversations, and return for each an example, or else the template's error or `None`.

    If the template cannot render a conversation, the chunk is halved until that conversation is found, and the
    template's error is returned in place of its example. `None` means that the encoder's layout cannot make an example
    from the conversation, for example because the conversation has no final answer.
    """
    try:
        return encoder.encode(chunk)
    except RefusedConversation as error:
        if len(chunk) == 1:
            return [error]
    half = len(chunk) // 2
    return [*_encode_chunk(chunk[:half], encoder), *_encode_chunk(chunk[half:], encoder)]


def _summarize(error: RefusedConversation) -> str:
    """Return the error message without row-specific details, so that equal faults are counted together."""
    return re.sub(r" \(role.*|(?<=message )\d+ ", "", error.what)
