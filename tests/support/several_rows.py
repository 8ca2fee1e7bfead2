"""A format whose rows give no, one or several conversations."""

from collections.abc import Iterator
from typing import Any

from instruct_lab.config import component
from instruct_lab.data import Alpaca, Conversation


@component
class Several(Alpaca):
    """Gives as many conversations for a row as its number of words modulo 4."""

    def conversations_of(self, row: Any) -> Iterator[Conversation]:
        (conversation,) = super().conversations_of(row)
        for _ in range(len(row.columns["output"].split()) % 4):
            yield conversation
