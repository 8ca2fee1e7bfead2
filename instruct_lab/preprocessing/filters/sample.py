"""A part of the rows, drawn stratum by stratum."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from instruct_lab.config import component
from instruct_lab.data import Conversation
from instruct_lab.data.sources.base import suggest_column
from instruct_lab.data.table import ConversationTable
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, part_text, train_alone

if TYPE_CHECKING:
    import numpy as np

Most = Annotated[int, Field(ge=1)] | None
MAX_TOLD_STRATA = 100
ABSENT = "(none)"


@component
class Sample(Step):
    """Keeps a part of the rows: a share of each stratum, at most so many of each, at most so many in all.

    A row is drawn by a hash of the seed and its id, the lowest ones of each stratum first. So the same rows are drawn
    on every machine and in every order, a smaller sample is part of a larger one, and a row that is added moves at most
    one other. The order of rows stays. 20 to 30 bytes are held for each row.
    Source: bottom-k sampling (Cohen and Kaplan, 2007).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"rows"})

    splits: Splits = Field(default_factory=train_alone)  # which splits pass through
    by: Literal["source", "length", "column"] | None = None  # what strata are told by; null: all rows are one
    column: Annotated[str, Field(min_length=1)] | None = None  # by column: the metadata column
    of: Part = "conversation"  # by length: what is measured, in characters
    num_quantiles: Annotated[int, Field(ge=2, le=1000)] = 4  # by length: strata of equal numbers of rows
    share: Annotated[float, Field(gt=0, le=1)] | None = None  # of each stratum that is kept; null: all of it
    max_per_stratum: Most = None  # rows of a stratum at most; null: no bound
    max_rows: Most = None  # rows in all at most; null: no bound
    allocation: Literal["proportional", "equal"] = "proportional"  # how strata share max_rows
    seed: Annotated[int, Field(ge=0)] = 0  # of the draw

    def __post_init__(self) -> None:
        """Refuse a sample of everything, and fields that say nothing together."""
        if self.share is None and self.max_per_stratum is None and self.max_rows is None:
            raise Refusal("share", "all rows would stay: set share, max_per_stratum or max_rows")
        if (self.column is not None) != (self.by == "column"):
            raise Refusal("column", "names the metadata column of by=column, and is needed there alone")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the rows that are drawn; counts the others, and notes rows before and after by stratum.

        Raises:
            InstructLabError: no row has the column that tells the strata.
        """
        import numpy as np

        if not len(conversations):
            return
        names, strata, hashes = self._read(conversations)
        before = np.bincount(strata, minlength=len(names))
        drawn = _lowest(strata, hashes, before, self._quotas(before))
        after = np.bincount(strata[drawn], minlength=len(names))
        self._note(context, names, before, after)
        del strata, hashes
        for keep, conversation in zip(drawn.tobytes(), conversations, strict=True):
            if keep:
                yield conversation
            else:
                context.dropped("not drawn", conversation)

    def _read(self, conversations: Sequence[Conversation]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """The strata's names, and the stratum's number and the hash of every row."""
        import numpy as np

        hashes = array("Q")
        if self.by is None:
            hashes.extend(_hashes(_ids(conversations), self.seed))
            return ["all"], np.zeros(len(hashes), np.uint32), np.asarray(hashes, np.uint64)
        numbers = array("Q")
        told: dict[str, int] = {}
        for row in conversations:
            hashes.append(_hash(row.id or str(row), self.seed))
            if self.by == "length":
                numbers.append(len(part_text(row, self.of)))
            else:
                numbers.append(told.setdefault(self._name(row), len(told)))
        if self.by == "length":
            return (*_quantiles(np.asarray(numbers), self.num_quantiles), np.asarray(hashes, np.uint64))
        if self.column is not None and set(told) == {ABSENT}:
            raise InstructLabError(
                f"No row has the column {self.column!r} that strata are told by",
                where="column of the step that samples",
                do=suggest_column(self.column, conversations[0].metadata),
            )
        return list(told), np.asarray(numbers, np.uint32), np.asarray(hashes, np.uint64)

    def _name(self, row: Conversation) -> str:
        value: Any = row.source if self.by == "source" else row.metadata.get(self.column or "")
        if value is None:
            return ABSENT
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)

    def _quotas(self, sizes: np.ndarray) -> np.ndarray:
        """How many rows of each stratum are kept."""
        import numpy as np

        quotas = sizes if self.share is None else np.floor(sizes * self.share + 0.5).astype(sizes.dtype)
        if self.max_per_stratum is not None:
            quotas = np.minimum(quotas, self.max_per_stratum)
        if self.max_rows is None or quotas.sum() <= self.max_rows:
            return quotas
        return (
            _proportional(quotas, self.max_rows) if self.allocation == "proportional" else _equal(quotas, self.max_rows)
        )

    def _note(self, context: Context, names: list[str], before: np.ndarray, after: np.ndarray) -> None:
        counts = sorted(zip(names, before.tolist(), after.tolist(), strict=True), key=lambda told: -told[1])
        shown = {name: {"in": rows_in, "out": rows_out} for name, rows_in, rows_out in counts[:MAX_TOLD_STRATA]}
        empty = int((after == 0).sum())
        context.audit.note(context.stage, num_strata=len(names), strata=shown, num_strata_without_rows=empty)


def _ids(conversations: Sequence[Conversation]) -> Iterator[str]:
    if isinstance(conversations, ConversationTable):
        for index, id_ in enumerate(conversations.ids()):
            yield id_ or str(conversations[index])
    else:
        yield from (row.id or str(row) for row in conversations)


def _hashes(ids: Iterable[str], seed: int) -> Iterator[int]:
    return (_hash(id_, seed) for id_ in ids)


def _hash(id_: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}:{id_}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _quantiles(lengths: np.ndarray, num_quantiles: int) -> tuple[list[str], np.ndarray]:
    """Strata of about equal numbers of rows by length; fewer where many rows have one length."""
    import numpy as np

    inner = np.arange(1, num_quantiles) / num_quantiles
    edges = np.unique(np.quantile(lengths, inner, method="higher"))
    edges = edges[edges < lengths.max()]
    starts = [int(lengths.min()), *(int(edge) + 1 for edge in edges)]
    ends = [*(int(edge) for edge in edges), int(lengths.max())]
    names = [f"{start} to {end} characters" for start, end in zip(starts, ends, strict=True)]
    return names, np.searchsorted(edges, lengths, side="left").astype(np.uint32)


def _lowest(strata: np.ndarray, hashes: np.ndarray, sizes: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Which rows are among the lowest hashes of their stratum; of equal ones (rows told twice) the first."""
    import numpy as np

    order = np.lexsort((hashes, strata))  # stable
    starts = np.cumsum(sizes) - sizes
    chosen = np.zeros(len(strata), dtype=bool)
    for start, quota in zip(starts.tolist(), quotas.tolist(), strict=True):
        chosen[order[start : start + quota]] = True
    return chosen


def _proportional(quotas: np.ndarray, total: int) -> np.ndarray:
    """The total shared out in proportion, the largest remainders first."""
    import numpy as np

    exact = quotas * (total / quotas.sum())
    shares = np.floor(exact).astype(quotas.dtype)
    rest = np.argsort(shares - exact, kind="stable")[: total - shares.sum()]
    shares[rest] += 1
    return np.minimum(shares, quotas)


def _equal(quotas: np.ndarray, total: int) -> np.ndarray:
    """The total shared out equally; what a small stratum cannot use goes to the others."""
    import numpy as np

    shares = np.zeros_like(quotas)
    left = total
    order = np.argsort(quotas, kind="stable")
    for place, stratum in enumerate(order):
        shares[stratum] = min(int(quotas[stratum]), -(-left // (len(order) - place)))
        left -= int(shares[stratum])
    return shares
