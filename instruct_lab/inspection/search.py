"""Search by id for rows that were dropped at any stage of data preparation.

The audit (the list of dropped rows and reasons) keeps only a few sample rows for each reason. Therefore, the results of
successive stages are compared, and the first stage whose result lacks the row is run again in a temporary folder to
find the reason.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from instruct_lab.cache import Entry, Stage, Store
from instruct_lab.data.audit import Drop, watch_drops
from instruct_lab.data.base import tables
from instruct_lab.errors import InstructLabError


def find_drops(stages: Sequence[Stage], store: Store, prefix: str) -> Iterator[Drop]:
    """Yield the dropped rows whose id begins with a prefix, each with the stage that dropped it and the reason.

    Args:
        stages: the stages of data preparation whose results are conversations, in order.
        store: the data cache.
        prefix: the beginning of the id.
    """
    before: Entry | None = None
    for index, stage in enumerate(stages):
        after = store.result(stages[: index + 1])
        lost = _count_ids(before, prefix) - _count_ids(after, prefix) if before is not None else Counter()
        if lost or (before is None and not _count_ids(after, prefix)):
            drops = _repeat(stage, before, store.path, prefix)
            yield from drops
            yield from _without_reason(stage, before, lost - Counter(drop.id for drop in drops))
        before = after


def _count_ids(entry: Entry, prefix: str) -> Counter[str]:
    return Counter(id_ for rows in tables(entry).values() for id_ in rows.ids() if id_.startswith(prefix))


def _repeat(stage: Stage, before: Entry | None, folder: Path, prefix: str) -> list[Drop]:
    """Run a stage again in a temporary folder, and return the dropped rows whose id begins with a prefix.

    If the stage joins the results of other stages, these are run again too. `before` is the cached result of the
    preceding stage, or `None` if `stage` is the first.
    """
    joined = [drop for part in stage.joins for drop in _repeat(part, None, folder, prefix)]
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary, watch_drops(prefix) as drops:
        stage.build(before, Path(temporary))
        return [*joined, *drops]


def _without_reason(stage: Stage, before: Entry | None, lost: Counter[str]) -> Iterator[Drop]:
    """Yield the rows that a stage left out without recording a reason, such as rows that a mixture does not draw.

    Args:
        stage: the stage that left the rows out.
        before: the result of the preceding stage; `None` if `stage` is the first.
        lost: for each id, how many rows with this id the stage left out without a reason. This function subtracts the
            rows that it yields.
    """
    for rows in tables(before).values() if before is not None and lost else ():
        for index, id_ in enumerate(rows.ids()):
            if lost[id_] > 0:
                lost[id_] -= 1
                yield Drop(id_, stage.name, "not selected", rows[index])


def only_id(ids: Sequence[str], prefix: str) -> str:
    """Return the only id that begins with a prefix.

    Args:
        ids: all different ids that begin with the prefix.
        prefix: the prefix, for the error's message.

    Raises:
        InstructLabError: `ids` is empty or has several elements.
    """
    if len(ids) == 1:
        return ids[0]
    if ids:
        known = ", ".join(ids[:8]) + (f", … {len(ids)} in all" if len(ids) > 8 else "")
        what, do = f"{len(ids)} ids begin with {prefix!r}", f"add characters until only one begins with them: {known}"
        raise InstructLabError(what, where="--id", do=do)
    raise InstructLabError(
        f"No row has an id that begins with {prefix!r}, neither in a split nor among the dropped rows",
        where="--id",
        do="take an id from inspect, from inspect --dropped, or from predictions.jsonl of a run with the same data; "
        "an id is a hash of the texts in the row, and a row that could not be read has none",
    )
