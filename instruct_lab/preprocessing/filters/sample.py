"""Stratified sampling of rows: rows are divided into groups (strata), and some of each are kept."""

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
from instruct_lab.preprocessing.base import Context, Need, Part, Splits, Step, part_text, train_only

if TYPE_CHECKING:
    import numpy as np

Most = Annotated[int, Field(ge=1)] | None
MAX_REPORTED_STRATA = 100
ABSENT = "(none)"


@component
class Sample(Step):
    """Keeps a sample of the rows: a share of each stratum, with a maximum number of rows per stratum and in total.

    A stratum is a group of rows with the same source, a similar length or the same value in a column. In each stratum,
    the rows with the lowest hashes of seed and id are selected. So the selection is the same on every machine and for
    every order of the rows, a larger sample contains all rows of a smaller sample, and a row added to the data replaces
    at most one row of the sample. The order of rows does not change. Memory: 20 to 30 bytes per row. Source:
    bottom-k sampling (Cohen and Kaplan, 2007).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"rows"})

    splits: Splits = Field(default_factory=train_only)  # splits that the step processes
    by: Literal["source", "length", "column"] | None = None  # criterion that defines the strata; null: one stratum
    column: Annotated[str, Field(min_length=1)] | None = None  # with by=column: the metadata column
    of: Part = "conversation"  # with by=length: the part whose characters are counted
    num_quantiles: Annotated[int, Field(ge=2, le=1000)] = 4  # with by=length: number of strata of equal size
    share: Annotated[float, Field(gt=0, le=1)] | None = None  # share of each stratum to keep; null: all rows
    max_per_stratum: Most = None  # maximum number of rows per stratum; null: no bound
    max_rows: Most = None  # maximum number of rows in total; null: no bound
    allocation: Literal["proportional", "equal"] = "proportional"  # how max_rows is divided among strata
    seed: Annotated[int, Field(ge=0)] = 0  # seed of the selection

    def __post_init__(self) -> None:
        """Refuse settings that keep all rows, and fields that contradict each other."""
        if self.share is None and self.max_per_stratum is None and self.max_rows is None:
            raise Refusal("share", "every row would be kept: set share, max_per_stratum or max_rows")
        if (self.column is not None) != (self.by == "column"):
            raise Refusal("column", "is the metadata column of by=column: set both or neither")

    def apply(self, conversations: Sequence[Conversation], context: Context) -> Iterator[Conversation]:
        """Yield the selected rows; note the dropped rows in the audit, and how many rows each stratum had and keeps.

        Raises:
            InstructLabError: no row has the column that defines the strata.
        """
        import numpy as np

        if not len(conversations):
            return
        names, strata, hashes = self._read(conversations)
        before = np.bincount(strata, minlength=len(names))
        selected = _lowest(strata, hashes, before, self._quotas(before))
        after = np.bincount(strata[selected], minlength=len(names))
        self._note(context, names, before, after)
        del strata, hashes
        for keep, conversation in zip(selected.tobytes(), conversations, strict=True):
            if keep:
                yield conversation
            else:
                context.count_dropped("not sampled", conversation)

    def _read(self, conversations: Sequence[Conversation]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Read all rows once.

        Returns:
            The names of the strata, the index of each row's stratum, uint32 `[rows]`, and a hash of each row's id,
            uint64 `[rows]`.
        """
        import numpy as np

        hashes = array("Q")
        if self.by is None:
            hashes.extend(_hashes(_ids(conversations), self.seed))
            return ["all"], np.zeros(len(hashes), np.uint32), np.asarray(hashes, np.uint64)
        numbers = array("Q")
        names: dict[str, int] = {}
        for row in conversations:
            hashes.append(_hash(row.id or str(row), self.seed))
            if self.by == "length":
                numbers.append(len(part_text(row, self.of)))
            else:
                numbers.append(names.setdefault(self._name(row), len(names)))
        if self.by == "length":
            return (*_quantiles(np.asarray(numbers), self.num_quantiles), np.asarray(hashes, np.uint64))
        if self.column is not None and set(names) == {ABSENT}:
            raise InstructLabError(
                f"No row has the column {self.column!r}, which defines the strata",
                where="column of the sampling step",
                do=suggest_column(self.column, conversations[0].metadata),
            )
        return list(names), np.asarray(numbers, np.uint32), np.asarray(hashes, np.uint64)

    def _name(self, row: Conversation) -> str:
        value: Any = row.source if self.by == "source" else row.metadata.get(self.column or "")
        if value is None:
            return ABSENT
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)

    def _quotas(self, sizes: np.ndarray) -> np.ndarray:
        """Return the number of rows to keep in each stratum, `[strata]`.

        Args:
            sizes: the number of rows in each stratum, `[strata]`.
        """
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
        counts = sorted(zip(names, before.tolist(), after.tolist(), strict=True), key=lambda counts: -counts[1])
        strata = {name: {"in": rows_in, "out": rows_out} for name, rows_in, rows_out in counts[:MAX_REPORTED_STRATA]}
        empty = int((after == 0).sum())
        context.audit.note(context.stage, num_strata=len(names), strata=strata, num_strata_without_rows=empty)


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
    """Divide rows by length into strata of about equal size, or into fewer strata if many rows have the same length.

    Args:
        lengths: number of characters of each row, `[rows]`.
        num_quantiles: number of strata.

    Returns:
        The names of the strata, and the stratum index of each row, uint32 `[rows]`.
    """
    import numpy as np

    inner = np.arange(1, num_quantiles) / num_quantiles
    edges = np.unique(np.quantile(lengths, inner, method="higher"))
    edges = edges[edges < lengths.max()]
    starts = [int(lengths.min()), *(int(edge) + 1 for edge in edges)]
    ends = [*(int(edge) for edge in edges), int(lengths.max())]
    names = [f"{start} to {end} characters" for start, end in zip(starts, ends, strict=True)]
    return names, np.searchsorted(edges, lengths, side="left").astype(np.uint32)


def _lowest(strata: np.ndarray, hashes: np.ndarray, sizes: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """Select the rows with the lowest hashes in each stratum; of rows with equal hashes, the first come first.

    Args:
        strata: stratum index of each row, `[rows]`.
        hashes: hash of each row, `[rows]`.
        sizes: number of rows of each stratum, `[strata]`.
        quotas: number of rows to select in each stratum, `[strata]`.

    Returns:
        Whether each row is selected, bool `[rows]`.
    """
    import numpy as np

    order = np.lexsort((hashes, strata))  # stable
    starts = np.cumsum(sizes) - sizes
    flags = np.zeros(len(strata), dtype=bool)
    for start, quota in zip(starts.tolist(), quotas.tolist(), strict=True):
        flags[order[start : start + quota]] = True
    return flags


def _proportional(quotas: np.ndarray, total: int) -> np.ndarray:
    """Divide a total number of rows among strata in proportion to their quotas, by the method of largest remainders.

    Args:
        quotas: the number of rows that each stratum would keep without this total, `[strata]`.
        total: the number of rows to keep in all strata together.
    """
    import numpy as np

    exact = quotas * (total / quotas.sum())
    shares = np.floor(exact).astype(quotas.dtype)
    rest = np.argsort(shares - exact, kind="stable")[: total - shares.sum()]
    shares[rest] += 1
    return np.minimum(shares, quotas)


def _equal(quotas: np.ndarray, total: int) -> np.ndarray:
    """Divide a total number of rows equally among strata.

    If a stratum has a quota below its equal share, the other strata get the difference.

    Args:
        quotas: the largest number of rows that each stratum can get, `[strata]`.
        total: the number of rows to keep in all strata together.
    """
    import numpy as np

    shares = np.zeros_like(quotas)
    left = total
    order = np.argsort(quotas, kind="stable")
    for index, stratum in enumerate(order):
        shares[stratum] = min(int(quotas[stratum]), -(-left // (len(order) - index)))
        left -= int(shares[stratum])
    return shares
