"""Encoding of conversations on disk as examples on disk; several processes can share the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_lab.batching.base import Batching
from instruct_lab.batching.example import Layout
from instruct_lab.batching.table import to_batches, write_batches
from instruct_lab.cache import map_in_order
from instruct_lab.data import Audit
from instruct_lab.data.table import ConversationTable
from instruct_lab.template import Template

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

PART_ROWS = 500


@dataclasses.dataclass(frozen=True)
class EncodeRows:
    """Renders and encodes the conversations of a split.

    Args:
        batching: encodes the conversations.
        template: renders the text and marks the trained parts.
        tokenizer: encodes the text.
        layout: the objective's input and the model family.
        rows: the conversations.
        split: the name of their split.
    """

    batching: Batching
    template: Template
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    rows: ConversationTable
    split: str

    def write(self, path: Path, audit: Audit) -> int:
        """Write the examples and return their number.

        Raises:
            InstructLabError: see `Batching.encode`.
        """
        return write_batches(path, self._encode_parts(audit))

    def _encode_parts(self, audit: Audit) -> Iterator[pyarrow.RecordBatch]:
        for record_batches, part_audit in map_in_order(self, self.rows.pieces(PART_ROWS)):
            audit.absorb(part_audit)
            yield from record_batches

    def __call__(self, piece: tuple[int, int, int]) -> tuple[list[pyarrow.RecordBatch], Audit]:
        """Encode a piece of the rows; return its examples and its audit."""
        audit = Audit()
        rows = self.rows.read_piece(*piece)
        examples = self.batching.encode(rows, self.template, self.tokenizer, audit, self.split, self.layout)
        return list(to_batches(examples)), audit
