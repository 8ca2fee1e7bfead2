"""Sample: shares, bounds, strata and their allocation; an added row replaces at most one other."""

import tracemalloc
from collections import Counter

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import write_conversations
from instruct_lab.errors import InstructLabError
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.filters.sample import Sample


def row(number, source="", answer="a", **metadata):
    return Conversation((Message("user", "q"), Message("assistant", answer)), str(number), (), metadata, (), source)


def run(step, rows):
    audit = Audit()
    return list(step.apply(rows, Context(stage="s", audit=audit))), audit


def ids(step, rows):
    return [kept.id for kept in run(step, rows)[0]]


ROWS = [row(number, source="big" if number % 10 else "small") for number in range(1000)]


def by_source(**fields):
    return Counter(kept.source for kept in run(Sample(by="source", **fields), ROWS)[0])


def test_a_share_is_kept_of_each_stratum():
    assert by_source(share=0.25) == {"big": 225, "small": 25}
    assert len(ids(Sample(share=0.25), ROWS)) == 250


def test_caps_hold_for_each_stratum_and_in_all():
    assert by_source(max_per_stratum=150) == {"big": 150, "small": 100}
    assert by_source(max_rows=50) == {"big": 45, "small": 5}
    assert by_source(max_rows=50, allocation="equal") == {"big": 25, "small": 25}
    assert by_source(max_rows=350, allocation="equal") == {"big": 250, "small": 100}
    assert by_source(max_rows=100, max_per_stratum=100) == {"big": 50, "small": 50}
    assert by_source(max_rows=5000) == {"big": 900, "small": 100}


def test_the_order_is_kept_and_dropped_rows_are_counted():
    found, audit = run(Sample(by="source", max_rows=100), ROWS)
    numbers = [int(kept.id) for kept in found]
    assert numbers == sorted(numbers)
    assert audit.count("dropped") == 900
    assert audit.facts["s"] == {
        "num_strata": 2,
        "strata": {"big": {"in": 900, "out": 90}, "small": {"in": 100, "out": 10}},
        "num_strata_without_rows": 0,
    }


def test_the_seed_decides_and_the_order_of_rows_does_not():
    assert ids(Sample(max_rows=100), ROWS) == ids(Sample(max_rows=100), ROWS)
    assert set(ids(Sample(max_rows=100), ROWS)) == set(ids(Sample(max_rows=100), ROWS[::-1]))
    other = set(ids(Sample(max_rows=100, seed=1), ROWS))
    assert len(other & set(ids(Sample(max_rows=100), ROWS))) < 40


def test_a_smaller_sample_is_part_of_a_larger_one():
    small, large = (set(ids(Sample(max_rows=size), ROWS)) for size in (50, 200))
    assert small < large


@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from(["share", "max_rows"]))
def test_a_row_that_is_added_moves_at_most_one(new, size, field):
    step = Sample(**{field: size / 100 if field == "share" else size})
    before, after = set(ids(step, ROWS[:100])), set(ids(step, [*ROWS[:100], row(f"new {new}")]))
    assert len(before - after) <= 1
    assert len(after - before) <= 1


def test_strata_by_a_column():
    rows = [row(number, kind=kind) for number, kind in enumerate(["a"] * 50 + [["x", 1]] * 50 + [None] * 50)]
    found, audit = run(Sample(by="column", column="kind", max_per_stratum=7), [*rows, *ROWS[:50]])
    assert len(found) == 21
    assert set(audit.facts["s"]["strata"]) == {"a", '["x", 1]', "(none)"}


def test_an_unknown_column_is_refused_with_the_nearest():
    with pytest.raises(InstructLabError, match="Did you mean 'kind'"):
        run(Sample(by="column", column="kinds", share=0.5), [row(1, kind="a")])


def test_strata_by_quantiles_of_length():
    rows = [row(number, answer="a" * (number % 100)) for number in range(1000)]
    found, audit = run(Sample(by="length", num_quantiles=5, max_per_stratum=10), rows)
    assert len(found) == 50
    strata = audit.facts["s"]["strata"]
    assert len(strata) == 5
    assert all(180 <= counts["in"] <= 220 for counts in strata.values())
    assert len(run(Sample(by="length", num_quantiles=2, max_per_stratum=10), rows)[0]) == 20
    assert len(run(Sample(by="length", of="prompt", num_quantiles=5, max_per_stratum=10), rows)[0]) == 10
    assert len(run(Sample(by="length", of="answer", num_quantiles=5, max_per_stratum=10), rows)[0]) == 50


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(2, 6), st.sampled_from(["source", "length"]))
def test_no_more_than_the_caps_and_no_fewer_than_there_are(numbers, cap, by):
    rows = [row(index, source=str(number), answer="a" * number) for index, number in enumerate(numbers)]
    for allocation in ("proportional", "equal"):
        found, audit = run(Sample(by=by, max_per_stratum=cap, max_rows=7, allocation=allocation), rows)
        capped = sum(min(cap, counts["in"]) for counts in audit.facts["s"]["strata"].values())
        assert len(found) == min(7, capped)
        assert all(counts["out"] <= cap for counts in audit.facts["s"]["strata"].values())


def test_duplicate_rows_are_sampled_one_by_one():
    assert len(ids(Sample(max_rows=3), [row("same")] * 10)) == 3
    assert len(ids(Sample(max_rows=3), [row("", answer=str(number)) for number in range(10)])) == 3


def test_no_rows_give_none():
    for by in (None, "source", "length"):
        assert ids(Sample(by=by, share=0.5), []) == []


def test_a_table_on_disk_gives_what_a_list_gives(tmp_path):
    write_conversations(tmp_path / "rows.arrow", ROWS)
    table = ConversationTable(tmp_path / "rows.arrow")
    assert ids(Sample(max_rows=100), table) == ids(Sample(max_rows=100), ROWS)
    assert ids(Sample(by="source", share=0.1), table) == ids(Sample(by="source", share=0.1), ROWS)


class Rows:
    """As many rows as wanted, made when they are asked for."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __iter__(self):
        return (row(number, source=str(number % 3)) for number in range(self.count))


@pytest.mark.slow
def test_a_few_bytes_are_held_for_each_row():
    list(Sample(by="source", share=0.1).apply(Rows(10), Context(stage="s", audit=Audit())))  # imports
    tracemalloc.start()
    kept = sum(1 for _ in Sample(by="source", share=0.1).apply(Rows(50_000), Context(stage="s", audit=Audit())))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept == pytest.approx(5000, abs=3)
    assert peak < 64 * 50_000


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "share"),
        ({"by": "source"}, "share"),
        ({"by": "column", "share": 0.5}, "column"),
        ({"column": "kind", "share": 0.5}, "column"),
        ({"share": 0.0}, "share"),
        ({"max_rows": 0}, "max_rows"),
    ],
)
def test_settings_without_effect_are_refused(fields, field):
    with pytest.raises(pydantic.ValidationError, match=field):
        Sample(**fields)


def test_it_needs_its_rows_twice_and_training_only():
    assert Sample(share=0.5).needs == {"rows"}
    assert Sample(share=0.5).splits == ["train"]
    assert Sample(share=0.5, splits=["test"]).splits == ["test"]
