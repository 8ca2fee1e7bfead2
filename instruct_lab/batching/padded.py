"""One example a row, padded to the longest."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from instruct_lab.batching.base import IGNORED, SUPERVISED_DECODER, Batch, Batching, Drawn, Example, Layout
from instruct_lab.batching.layouts import Examples, LayoutEncoder, layout_encoder
from instruct_lab.batching.loader import BatchLoader
from instruct_lab.batching.overlong import Overlong, shorten
from instruct_lab.config import component
from instruct_lab.data import Audit, Conversation
from instruct_lab.errors import InstructLabError
from instruct_lab.template import Template

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

STAGE = "batching"
CHUNK = 1000
"""Conversations that are rendered and encoded together."""
CHUNKS_AHEAD = 2
"""Chunks that are begun before the first is waited for: the tokenizer's threads never wait for Python."""


@component
class Padded(Batching):
    """One example a row, padded on the right to the longest of its batch.

    Every conversation that is cut or left out is counted in the audit. An example with no target token is never given
    out.
    """

    loading_fields: ClassVar[frozenset[str]] = Batching.loading_fields | {"pad_to_multiple_of", "group_by_length"}

    batch_size: Annotated[int, Field(ge=1)] = 8  # examples a device and micro-batch, in training
    evaluation_batch_size: Annotated[int, Field(ge=1)] = 16  # the same, in evaluation
    max_tokens: Annotated[int, Field(ge=2)] | None = 1024  # tokens of the longest example; null: no limit
    overlong: Overlong = "drop"  # what becomes of a longer one: error, drop, truncate_prompt, truncate_response
    pad_to_multiple_of: Annotated[int, Field(ge=1)] = 1  # batches are padded up to a multiple of this; 8 suits GPUs
    group_by_length: bool = True  # examples of like length together in training: less padding

    def encode(
        self,
        conversations: Iterable[Conversation],
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        audit: Audit,
        split: str,
        layout: Layout = SUPERVISED_DECODER,
    ) -> Iterator[Example]:
        """See `Batching.encode`."""
        encoder = layout_encoder(layout, template, tokenizer)
        rows_in = rows_out = 0
        for chunk, encoded in _in_chunks(iter(conversations), encoder):
            rows_in += len(chunk)
            for conversation, example in zip(chunk, encoded, strict=True):
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
        """See `Batching.encode_prompts`; the prompt of an example that was cut is cut as it was."""
        encoder = layout_encoder(layout, template, tokenizer)
        return encoder.prompts(self._as_cut(conversations, encoder))

    def collate(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """See `Batching.collate`."""
        import torch

        pad = pad_token_id if pad_token_id is not None else 0
        is_paired = examples[0].rejected is not None
        rows = [*examples, *(e.rejected for e in examples if e.rejected is not None)]
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        input_ids = self._padded([row.input_ids for row in rows], pad)
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()  # [rows, seq]
        labels = self._padded([row.labels for row in rows], IGNORED)
        weights = None
        if any(row.weights is not None for row in rows):
            weights = self._padded([row.weights or [1.0] * len(row.labels) for row in rows], 0.0)
        reference = None
        if all(example.reference is not None for example in examples):
            reference = torch.tensor([example.reference for example in examples], dtype=torch.float32)
        return Batch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            labels=labels,
            sources=[example.source for example in examples],
            weights=weights,
            reference=reference,
            is_paired=is_paired,
        )

    def _padded(self, rows: Sequence[Sequence[float]], padding: float) -> Tensor:
        """Rows of one length, in the type of the padding: `[rows, seq]`."""
        import torch

        width = -(-max(map(len, rows)) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        padded = torch.full((len(rows), width), padding)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = torch.tensor(row, dtype=padded.dtype)
        return padded

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
    ) -> BatchLoader:
        """See `BatchLoader`."""
        return BatchLoader(
            examples,
            lambda batch: self.collate(batch, pad_token_id),
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            group_by_length=self.group_by_length,
            rank=rank,
            world_size=world_size,
            drawn=drawn,
        )

    def _fit(
        self,
        conversation: Conversation,
        example: Example,
        encoder: LayoutEncoder,
        audit: Audit,
        split: str,
    ) -> Example | None:
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
            reason = f"{split}: longer than {limit} tokens with the {what} cut"
            audit.record(STAGE, "dropped", reason, conversation)
            return None
        place = "middle of the prompt" if self.overlong == "truncate_prompt" else "end of the response"
        audit.record(STAGE, "truncated", f"{split}: {place} cut to fit {limit} tokens", short.before, short.after)
        return short.example

    def _as_cut(self, conversations: Sequence[Conversation], encoder: LayoutEncoder) -> list[Conversation]:
        if self.max_tokens is None or self.overlong in ("error", "drop"):
            return list(conversations)
        cut = []
        for conversation, example in zip(conversations, encoder.encode(conversations), strict=True):
            short = None
            if example is not None and not example.rejected and max(encoder.excess(example, self.max_tokens)) > 0:
                short = shorten(conversation, self.overlong, self.max_tokens, encoder)
            cut.append(short.conversation if short is not None else conversation)
        return cut


def _in_chunks(
    rows: Iterator[Conversation], encoder: LayoutEncoder
) -> Iterator[tuple[list[Conversation], list[Example | None]]]:
    """Chunks with their examples; while one is encoded, another is rendered, and a third waits its turn."""
    begun: deque[tuple[list[Conversation], Examples]] = deque()
    while chunk := list(itertools.islice(rows, CHUNK)):
        begun.append((chunk, encoder.begin(chunk)))
        if len(begun) > CHUNKS_AHEAD:
            earlier, examples = begun.popleft()
            yield earlier, examples()
    for earlier, examples in begun:
        yield earlier, examples()
