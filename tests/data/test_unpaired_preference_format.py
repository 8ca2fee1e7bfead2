"""Answers with a label: every usual label and layout, and every row that is none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from instruct_lab.cache import Store
from instruct_lab.data import DataSet, Files, HashSplit, Row, UnpairedPreference
from instruct_lab.data.base import tables
from instruct_lab.data.formats.unpaired_preference import SPELLINGS
from instruct_lab.errors import InstructLabError


def row(**columns) -> Row:
    return Row({"prompt": "Why is it blue?", "completion": "Rayleigh.", **columns}, "rows.csv, line 4")


def read(format=None, **columns):
    return (format or UnpairedPreference()).conversation(row(**columns))


@pytest.mark.parametrize(
    ("label", "desirable"),
    [
        *[(label, True) for label in (True, 1, 1.0, "True", "true ", "1", "1.0", "+1", "GOOD", "thumbs_up", "👍")],
        *[(label, False) for label in (False, 0, -1, "False", "no", "0.0", "-1", "Thumbs-Down", "thumbs down", "👎")],
    ],
)
def test_usual_labels_are_read(label, desirable) -> None:
    assert read(label=label).desirable is desirable


def test_no_spelling_means_both() -> None:
    assert not {*SPELLINGS[True].split()} & {*SPELLINGS[False].split()}


def test_labels_of_ones_own_take_precedence() -> None:
    format = UnpairedPreference(label="verdict", labels={"Very Helpful": True, "good": False, "0": None})
    assert [read(format, verdict=v).desirable for v in ("very-helpful", "Good", "0")] == [True, False, False]


@pytest.mark.parametrize(("rating", "desirable"), [(4, True), (3.9, False), ("5", True), ("-2", False), (0, False)])
def test_ratings_are_compared_with_a_threshold(rating, desirable) -> None:
    assert read(UnpairedPreference(label="rating", threshold=4), rating=rating).desirable is desirable


@pytest.mark.parametrize(
    ("settings", "columns", "reason"),
    [
        ({}, {"label": 3}, r"3 is not a known label.*line 4, column 'label'.*threshold"),
        ({}, {"label": "maybe"}, r"'maybe' is not a known label.*labels={maybe: true}"),
        ({}, {"label": None}, "no label"),
        ({}, {"label": " "}, "no label"),
        ({}, {}, "no column 'label'"),
        ({"threshold": 4}, {"label": "many"}, "number was expected.*'many'.*threshold"),
        ({"threshold": 4}, {"label": True}, "number was expected"),
        ({"threshold": 4}, {"label": "nan"}, "number was expected"),
        ({}, {"label": 1, "completion": " "}, "does not end with an answer"),
        ({}, {"label": 1, "prompt": " "}, "no prompt before it"),
        ({}, {"label": 1, "completion": "Why is it blue? Because."}, "begins with the prompt.*repeated_prompt"),
        ({"repeated_prompt": "cut"}, {"label": 1, "completion": "Why is it blue?\n"}, "only repeats the prompt"),
        ({}, {"label": 1, "images": ["a.png"]}, r"'images'.*ignore_columns=\[images\]"),
        ({"completion": None}, {"label": 1}, "does not end with an answer"),
        ({}, {"label": 1, "completion": [{"role": "user", "content": "u"}]}, "does not end with an answer"),
    ],
)
def test_a_row_that_is_no_labelled_answer_is_broken_with_its_reason(settings, columns, reason) -> None:
    with pytest.raises(InstructLabError, match=f"(?s){reason}"):
        read(UnpairedPreference(**settings), **columns)


def test_labels_beside_a_threshold_are_refused() -> None:
    with pytest.raises(ValidationError, match="no effect with threshold"):
        UnpairedPreference(threshold=1, labels={"a": True})


def test_an_answer_that_repeats_the_prompt_is_cut_or_kept() -> None:
    columns = {"label": 0, "completion": " Why is it blue?\n\nPaint."}
    assert read(UnpairedPreference(repeated_prompt="cut"), **columns).messages[-1].content == "Paint."
    assert read(UnpairedPreference(repeated_prompt="keep"), **columns).messages[-1].content == columns["completion"]


def test_messages_texts_and_whole_conversations_are_read_alike() -> None:
    ask, reply = {"role": "user", "content": "Why is it blue?"}, {"role": "assistant", "content": "Rayleigh."}
    texts = read(label=True)
    assert read(prompt=[ask], completion=[reply], label=True) == texts
    assert read(prompt=[ask], completion=reply, label=True) == texts
    assert read(prompt=json.dumps([ask]), completion=json.dumps(reply), label=True) == texts
    whole = UnpairedPreference(prompt="messages", completion=None)
    turns = {"messages": [ask, reply], "label": True, "prompt": None, "completion": None}
    assert whole.conversation(Row(turns, "")).messages == texts.messages
    sharegpt = [{"from": "human", "value": "Why is it blue?"}, {"from": "gpt", "value": "Rayleigh."}]
    assert whole.conversation(Row({"messages": sharegpt, "label": 1}, "")).messages == texts.messages


def test_the_label_is_part_of_the_id_and_of_the_text_in_samples() -> None:
    good, bad = read(label=True), read(label="bad")
    assert good.messages == bad.messages
    assert good.id != bad.id
    assert str(good).endswith("label: desirable")
    assert str(bad).endswith("label: undesirable")
    assert bad.metadata == {"label": "bad"}
    assert bad.map_text(lambda _, text: text.upper()).desirable is False


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.text(min_size=1).filter(str.strip), st.text(min_size=1).filter(str.strip), st.booleans()),
        min_size=1,
        max_size=8,
    )
)
def test_no_label_vanishes_between_the_file_and_the_table(tmp_path_factory, rows) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = [json.dumps({"prompt": p, "completion": c, "label": str(good)}) + "\n" for p, c, good in rows]
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    format = UnpairedPreference(repeated_prompt="keep")
    data = DataSet(train={"file": Files(path=str(folder / "rows.jsonl"))}, format=format)
    found = tables(Store(folder / "cache").result([data.stage(folder)]))["train"]
    assert [(c.messages[0].content, c.messages[1].content, c.desirable) for c in found] == rows


def test_answers_to_one_prompt_stay_in_one_split() -> None:
    split = HashSplit(validation=0.5)
    for number in range(30):
        rows = [read(prompt=f"Question {number}?", completion=c, label=c == "a") for c in ("a", "b", "c")]
        assert len({split.split_of(one) for one in rows}) == 1
