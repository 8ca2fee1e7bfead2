"""Conversations read from disk equal those that were written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.cache.arrow import BATCH_ROWS
from instruct_lab.data import Conversation, Message
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import ConversationWriter, write_conversations

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SAID = st.builds(Message, TEXT, TEXT, st.sampled_from([None, True, False]), st.sampled_from([1.0, 1.0, 0.3, 2.0]))
MESSAGES = st.lists(SAID, max_size=4).map(tuple)
PLAIN = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2), max_size=3)
CONVERSATIONS = st.builds(
    Conversation,
    messages=MESSAGES,
    id=TEXT,
    references=st.lists(TEXT, max_size=2).map(tuple),
    metadata=PLAIN,
    rejected=st.lists(st.builds(Message, TEXT, TEXT), max_size=2).map(tuple),
    source=TEXT,
)


@pytest.mark.slow
@given(st.lists(CONVERSATIONS, max_size=8))
@settings(max_examples=60)
def test_conversations_read_equal_those_written(tmp_path_factory, conversations) -> None:
    path = tmp_path_factory.mktemp("table") / "rows.arrow"
    assert write_conversations(path, conversations) == len(conversations)
    table = ConversationTable(path)
    assert list(table) == conversations
    assert [table[index] for index in range(len(table))] == conversations
    assert table[1:] == conversations[1:]
    assert table == conversations
    assert [*table.ids()] == [conversation.id for conversation in conversations]


def numbered(count):
    return [Conversation((Message("user", f"q{n}"),), str(n), source="ab"[n % 2]) for n in range(count)]


def test_rows_of_several_batches_are_found_by_number(tmp_path) -> None:
    rows = numbered(2 * BATCH_ROWS + 3)
    write_conversations(tmp_path / "rows.arrow", rows)
    table = ConversationTable(tmp_path / "rows.arrow")
    for index in (0, BATCH_ROWS - 1, BATCH_ROWS, 2 * BATCH_ROWS + 2, -1):
        assert table[index] == rows[index]
    assert table.sources() == {"a": BATCH_ROWS + 2, "b": BATCH_ROWS + 1}


def test_rows_are_selected_and_taken_by_number(tmp_path) -> None:
    import numpy as np

    rows = numbered(2 * BATCH_ROWS)
    write_conversations(tmp_path / "rows.arrow", rows)
    table = ConversationTable(tmp_path / "rows.arrow")
    flags = bytearray(number % 3 == 0 for number in range(len(rows)))
    assert table.write_selected(tmp_path / "third.arrow", flags) == sum(flags)
    assert ConversationTable(tmp_path / "third.arrow") == rows[::3]
    order = np.array([5, 5, len(rows) - 1, 0])
    assert table.write_rows(tmp_path / "taken.arrow", order) == 4
    assert ConversationTable(tmp_path / "taken.arrow") == [rows[5], rows[5], rows[-1], rows[0]]
    assert table.lowest_ids(3) == {int(name) for name in sorted(map(str, range(len(rows))))[:3]}


def test_metadata_that_json_cannot_hold_becomes_text(tmp_path) -> None:
    import datetime

    day = datetime.date(2020, 1, 2)
    write_conversations(tmp_path / "rows.arrow", [Conversation((), metadata={"day": day})])
    (found,) = ConversationTable(tmp_path / "rows.arrow")
    assert found.metadata == json.loads(json.dumps({"day": day}, default=str))


def test_a_writer_holds_a_bounded_number_of_bytes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("instruct_lab.data.writing.BATCH_BYTES", 100)
    with ConversationWriter(tmp_path / "rows.arrow") as writer:
        for number in range(5):
            writer.write(Conversation((Message("user", "x" * 60),), str(number)))
            assert writer._builder.num_characters < 100
    assert len(ConversationTable(tmp_path / "rows.arrow")) == 5
