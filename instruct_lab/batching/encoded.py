"""Encoding of a file of conversations to a file of examples, in one or several processes."""

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
from instruct_lab.data.dataset import too_many_broken
from instruct_lab.data.table import ConversationTable
from instruct_lab.progress import advance, stage
from instruct_lab.template import RefusedConversation, Template

if TYPE_CHECKING:
    import pyarrow
    from transformers import PreTrainedTokenizerBase

PART_ROWS = 500


@dataclasses.dataclass(frozen=True)
class EncodedPart:
    """The result of encoding some of a split's conversations.

    Args:
        batches: the examples, as Arrow record batches.
        audit: report on these conversations, which counts those that were cut, dropped or reported, by reason.
        num_broken: number of conversations that the template could not render.
        first_error: the template's error for the first of the broken conversations; `None` if all could be rendered.
    """

    batches: list[pyarrow.RecordBatch]
    audit: Audit
    num_broken: int
    first_error: RefusedConversation | None


@dataclasses.dataclass(frozen=True)
class EncodeRows:
    """A callable that renders and encodes the conversations of a split, part by part.

    Args:
        batching: batching that encodes the conversations.
        template: template that renders the text and marks the segments to train on.
        tokenizer: tokenizer of the model.
        layout: the layout of the examples, which fits the objective's input and the model family.
        rows: the table of the split's conversations.
        split: the name of the split, for the audit and the progress report.
        max_broken_share: the largest share of conversations, from 0 to 1, that the template may fail to render; with
            more, an error is raised.
    """

    batching: Batching
    template: Template
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    rows: ConversationTable
    split: str
    max_broken_share: float = 0.0

    def write(self, path: Path, audit: Audit) -> int:
        """Encode all conversations, write the examples to a file, and return their number.

        Raises:
            InstructLabError: the template or the tokenizer cannot be used, the template fails to render too many
                conversations, or a conversation is too long and `batching.overlong` is `error`.
        """
        with stage(f"{self.split} split", len(self.rows), "row"):
            return write_batches(path, self._encode_parts(audit))

    def _encode_parts(self, audit: Audit) -> Iterator[pyarrow.RecordBatch]:
        first: RefusedConversation | None = None
        num_rows = num_broken = 0
        pieces = list(self.rows.pieces(PART_ROWS))
        for piece, encoded in zip(pieces, map_in_order(self, pieces), strict=True):
            num_rows, num_broken = num_rows + piece[2], num_broken + encoded.num_broken
            audit.absorb(encoded.audit)
            advance(piece[2])
            first = first or encoded.first_error
            yield from encoded.batches
            if num_broken == num_rows and num_broken > self.max_broken_share * len(self.rows):
                break  # the template does not fit the data
        if first is not None and num_broken > self.max_broken_share * num_rows:
            raise too_many_broken(first, num_broken, num_rows, self.max_broken_share)

    def __call__(self, piece: tuple[int, int, int]) -> EncodedPart:
        """Encode some rows of the table.

        Args:
            piece: the index of the Arrow record batch that holds the rows, the index of the first row within this
                batch, and the number of rows.
        """
        audit, refused = Audit(), list[RefusedConversation]()
        rows = self.rows.read_piece(*piece)
        examples = self.batching.encode(rows, self.template, self.tokenizer, audit, self.split, self.layout, refused)
        return EncodedPart(list(to_batches(examples)), audit, len(refused), refused[0] if refused else None)
