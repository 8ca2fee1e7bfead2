"""Batching that lays the texts of a batch end to end, so that the model computes almost no padding."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from instruct_lab.batching.batch import Batch
from instruct_lab.batching.example import Example
from instruct_lab.batching.packing import Packing
from instruct_lab.batching.padded import RowBatching
from instruct_lab.config import component
from instruct_lab.errors import Refusal


def _refuse_sharing(value: object) -> object:
    if value == "auto":
        raise ValueError("each text of a packed row is computed whole, and only padded rows share prefixes: choose off")
    return value


@component
class Packed(RowBatching):
    """The texts of a batch laid end to end in rows, so that the model computes almost no padding.

    No token sees a token of another text: positions start again at each text, attention stays within it, and no label
    is predicted from another text. A batch holds the same examples as with `Padded`, in the same order, so a run gives
    the same losses, up to rounding, unless dropout is used. By default, one row holds all texts of a batch, which
    leaves no padding at all. With `row_tokens`, texts are distributed over rows by best-fit decreasing (Johnson et al.,
    1974), and rows are padded to the longest one.

    With `model.attention=sdpa`, PyTorch's attention is called once for each text on a CPU, and once for all texts on a
    GPU in 16 bits (`torch.nn.attention.varlen`); with `flash_attention_2`, once for all texts. With `eager` and
    `flex_attention`, a mask separates the texts: its size grows with the square of a row's length, so set `row_tokens`.

    Encoder-decoders are refused, because they count positions from the start of a row. Virtual tokens, such as those of
    prompt tuning, are also refused: they would precede each row instead of each text. Architectures with layers other
    than attention that mix the tokens of a row are refused as well. When the weights are loaded, each model is tested
    on short texts; a model in which one text affects the results of another is refused.
    """

    families: ClassVar = frozenset({"decoder", "encoder"})

    share_prefix: Annotated[Literal["off"], BeforeValidator(_refuse_sharing, json_schema_input_type=Literal["off"])] = (
        "off"  # each text is computed whole; only padded rows share prefixes
    )
    row_tokens: Annotated[int, Field(ge=2)] | None = None  # maximum number of tokens in a row; null: one row a batch

    def __post_init__(self) -> None:
        if self.row_tokens is not None and (self.max_tokens is None or self.row_tokens < self.max_tokens):
            limit = "no limit" if self.max_tokens is None else str(self.max_tokens)
            reason = f"a row must hold the longest example, and the limit of examples (max_tokens) is {limit}"
            raise Refusal("row_tokens", reason, None if self.max_tokens is None else limit)

    @property
    def packing(self) -> Packing:
        """The rule for laying texts end to end: maximum length of a row, and the multiple to which rows are padded."""
        return Packing(self.row_tokens, self.pad_to_multiple_of)

    def collate(self, examples: Sequence[Example], pad_token_id: int | None) -> Batch:
        """Join examples into one batch, whose texts the model reads end to end."""
        return dataclasses.replace(self._join(examples, pad_token_id), packing=self.packing)
