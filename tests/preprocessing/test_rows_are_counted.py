"""The steps of the standard preset lose no row without counting it, and keep every row that differs visibly."""

import json
import re
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.cache import Store
from instruct_lab.data import DataSet, Files, HashSplit, Messages
from instruct_lab.data.base import tables
from instruct_lab.data.remaining import NoRowsLeft
from instruct_lab.data.stages import audit_of
from instruct_lab.preprocessing import Clean, DeduplicateExact, Normalize, Preprocessing

STANDARD = Preprocessing(steps={"normalize": Normalize(), "clean": Clean(), "deduplicate": DeduplicateExact()})
OPERATORS = ["a < b", "a > b", "a  < b", "A < b", "7 - 5", "7 + 5", "x²"]
TEXTS = st.sampled_from([*OPERATORS, "Hi", "caf\u00e9", "cafe\u0301", "CafÃ© or Café?", " "])
ROLES = {
    "asked": ["user", "assistant", "user", "assistant"],
    "with a task": ["system", "user", "assistant"],
    "assistant first": ["assistant", "user", "assistant"],
    "open end": ["user", "assistant", "user"],
}


def turns_of(kind: str) -> st.SearchStrategy[list[tuple[str, str]]]:
    return st.tuples(*(st.tuples(st.just(role), TEXTS) for role in ROLES[kind])).map(list)


ROWS = st.lists(st.sampled_from(list(ROLES)).flatmap(turns_of), min_size=1, max_size=20)


def visible(text: str) -> str:
    """What can be seen of a text, computed apart from the project: composed characters, one space for white space."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


def answered(row: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The visible turns up to the last answer: what cleaning leaves."""
    end = max(index for index, (role, _) in enumerate(row) if role == "assistant")
    return tuple((role, visible(text)) for role, text in row[: end + 1])


def is_usable(turns: tuple[tuple[str, str], ...]) -> bool:
    return bool(turns[-1][1]) and any(text for role, text in turns[:-1] if role != "system")


@pytest.mark.slow
@given(ROWS, st.sampled_from([0.0, 0.3]), st.integers(0, 3))
@settings(max_examples=40)
def test_no_row_vanishes_uncounted_and_distinct_rows_are_kept_in_one_split(rows, validation, seed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in row]}) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
        split = HashSplit(validation=validation, seed=seed)
        data = DataSet(train={"file": Files(path=str(path))}, format=Messages(), split=split)
        cache = Path(folder) / "cache"
        stages = [data.stage(cache), *STANDARD.stages(cache), data.stage_after_preprocessing()]
        try:
            entry = Store(cache).result(stages)
        except NoRowsLeft:
            return
        audit = audit_of(entry)
        kept = {
            name: [tuple((m.role, visible(m.content)) for m in row.messages) for row in table]
            for name, table in tables(entry).items()
        }
    dropped = sum(reason["count"] for reason in audit["reasons"] if reason["action"] == "dropped")
    assert dropped + sum(map(len, kept.values())) == len(rows), "every row is kept or counted"
    expected = {turns for turns in map(answered, rows) if is_usable(turns)}
    overlapping = [reason for reason in audit["reasons"] if "prompt also in" in reason["reason"]]
    found = {turns for table in kept.values() for turns in table}
    assert found <= expected
    if not overlapping:
        assert found == expected, "rows that differ in any visible character are kept"
    assert len(kept["train"]) == len(set(kept["train"])), "equal rows are dropped once"
    assert not set(kept["train"]) & set(kept["validation"]), "and are never in two splits"
