"""Every conversation keeps the file and line that its row was read from, through tables, steps and worker processes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab import preprocessing
from instruct_lab.cache import Store
from instruct_lab.data import Alpaca, Audit, Conversation, DataSet, Files, HashSplit, Message, Mixture
from instruct_lab.data.audit import watch_drops
from instruct_lab.data.base import tables
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import write_conversations
from instruct_lab.preprocessing.base import Context

ROWS = [{"instruction": f"Say {n}", "input": "", "output": f"number {n} it is"} for n in range(40)]


def write(path, kind):
    if kind == "jsonl":
        path.write_text("\n\n".join(map(json.dumps, ROWS)), encoding="utf-8")  # a blank line after every row
    elif kind == "json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif kind == "csv":
        lines = ["instruction,input,output", *(f'"{r["instruction"]}\n",,{r["output"]}' for r in ROWS)]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


LINES = {"jsonl": "line {}", "json": "row {}", "csv": "line {}", "parquet": "row {}"}
NUMBERS = {
    "jsonl": lambda n: 2 * n + 1,
    "json": lambda n: n + 1,
    "csv": lambda n: 2 * n + 2,
    "parquet": lambda n: n + 1,
}


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("joined", [False, True])
def test_rows_of_every_split_know_their_file_and_line(tmp_path, kind, joined):
    path = tmp_path / f"rows.{kind}"
    write(path, kind)
    split = HashSplit(validation=0.3, test=0.2)
    data = DataSet(train={"file": Files(path=str(path))}, format=Alpaca(), split=split)
    if joined:
        other = DataSet(train={"file": Files(path=str(path))}, format=Alpaca(), split=split)
        data = Mixture(parts={"a": data, "b": other})
    found = tables(Store(tmp_path / "cache").result([data.stage(tmp_path / "cache")]))
    rows = [row for table in found.values() for row in table]
    assert len(rows) >= 40
    assert all(table for table in found.values())
    for row in rows:
        number = NUMBERS[kind](int(row.messages[-1].content.split()[1]))
        assert row.origin == f"{path}, {LINES[kind].format(number)}"


texts = st.text(max_size=20)


@pytest.mark.slow
@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=8))
def test_origins_survive_a_table(tmp_path_factory, rows):
    written = [
        Conversation((Message("user", prompt), Message("assistant", answer)), id=str(n), origin=origin)
        for n, (prompt, answer, origin) in enumerate(rows)
    ]
    path = tmp_path_factory.mktemp("table") / "rows.arrow"
    write_conversations(path, written)
    read = list(ConversationTable(path))
    assert [row.origin for row in read] == [row.origin for row in written]
    assert read == written


STEPS = [
    preprocessing.Clean(),
    preprocessing.Normalize(),
    preprocessing.Redact(),
    preprocessing.Redact(policy="drop"),
    preprocessing.Counterfactual(),
    preprocessing.Repetition(max_top_2gram=0.2, judged_from_words=0),
    preprocessing.Quality(phrases=["fine … 7"]),
    preprocessing.Length(max_characters=50),
    preprocessing.Expression(keep="metadata['n'] < 20"),
    preprocessing.Sample(max_rows=10),
    preprocessing.DeduplicateExact(),
    preprocessing.DeduplicateExact(keep="longest"),
    preprocessing.NearDuplicates(threshold=0.5),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_keeps_the_origin_of_every_row(step, tmp_path):
    rows = [
        Conversation(
            (Message("user", f"  Contact\u00a0ann{n}@site.org, he said{n}  "), Message("assistant", f"Fine … {n}\r\n")),
            id=f"{n:04}",
            origin=f"rows.jsonl, line {n}",
            metadata={"n": n},
        )
        for n in [*range(30), 3, 3]
    ]
    write_conversations(tmp_path / "rows", rows)
    table = ConversationTable(tmp_path / "rows")
    audit = Audit()
    context = Context("preprocessing/train/step", audit, splits={"train": table}, cache_path=tmp_path)
    flags = step.flags(table, context)
    kept = list(step.apply(table, context)) if flags is None else [r for r, f in zip(table, flags, strict=True) if f]
    assert len(kept) + audit.count("dropped") == len(table) + audit.count("added")
    by_id = {row.id: row.origin for row in rows}
    assert all(row.origin == by_id.get(row.id, row.origin) != "" for row in kept)
    for tally in audit.tallies.values():
        if tally.action == "dropped":
            assert all(by_id[sample["id"]] == sample["where"] for sample in tally.samples)


@given(st.lists(st.sampled_from(["aa1", "aa2", "ab1", ""]), max_size=30), st.sampled_from(["a", "aa", "aa1", "zz"]))
def test_watching_collects_the_drops_of_exactly_the_rows_that_begin_with_the_prefix(ids, prefix):
    audit = Audit()
    rows = [Conversation((Message("user", "a"),), id=id_, origin=str(n)) for n, id_ in enumerate(ids)]
    with watch_drops(prefix) as drops:
        for row in rows:
            audit.record("stage", "dropped", "reason", row)
            audit.record("stage", "changed", "reason", row, row)
    audit.record("stage", "dropped", "reason", Conversation((), id=prefix))
    assert [(drop.id, drop.row.origin) for drop in drops] == [
        (row.id, row.origin) for row in rows if row.id.startswith(prefix)
    ]
