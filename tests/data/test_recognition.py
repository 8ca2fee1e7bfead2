"""The format of rows is recognised by their columns."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instruct_lab.data.formats.recognition import recognize, recognize_misspelled
from instruct_lab.data.sources.base import Row

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
ANSWER = [{"role": "assistant", "content": "Hello"}]
CALL = {"function": {"name": "f", "arguments": "{}"}, "id": "1", "type": "function"}


def rows(*columns):
    return [Row(one, f"rows.jsonl, line {number}") for number, one in enumerate(columns, start=1)]


CLEAR = {
    "messages": ({"messages": TURNS, "prompt": "Hi"}, "Messages", {}),
    "messages with tool calls": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [CALL]}], "tools": [{}]},
        "Messages",
        {},
    ),
    "messages as JSON text": ({"messages": json.dumps(TURNS), "id": 1}, "Messages", {}),
    "messages under another name": ({"Conversation": TURNS}, "Messages", {"messages": "Conversation"}),
    "messages under an unusual name": ({"talk": TURNS, "id": 3}, "Messages", {"messages": "talk"}),
    "ShareGPT": ({"conversations": SHAREGPT, "source": "x"}, "ShareGPT", {}),
    "ShareGPT with other keys": (
        {"chat": [{"speaker": "human", "text": "a"}, {"speaker": "gpt", "text": "b"}]},
        "ShareGPT",
        {"conversations": "chat", "role": "speaker", "content": "text"},
    ),
    "Alpaca": ({"instruction": "a", "input": "", "output": "b", "text": "all"}, "Alpaca", {}),
    "Dolly": (
        {"instruction": "a", "context": "c", "response": "b", "category": "qa"},
        "Alpaca",
        {"input": "context", "output": "response"},
    ),
    "prompt and completion": ({"prompt": "a", "completion": "b"}, "PromptCompletion", {}),
    "prompt and completion of messages": ({"prompt": TURNS[:1], "completion": ANSWER}, "PromptCompletion", {}),
    "question and answer": ({"id": 1, "Question": "a", "Answer": "b"}, "PromptCompletion", {"prompt": "Question"}),
    "OpenOrca": (
        {"id": "1", "system_prompt": "s", "question": "a", "response": "b"},
        "PromptCompletion",
        {"prompt": "question", "completion": "response", "system": "system_prompt"},
    ),
    "summary": ({"document": "a", "summary": "b", "id": "1"}, "PromptCompletion", {"prompt": "document"}),
    "SQuAD": (
        {"id": "1", "title": "t", "context": "c", "question": "q", "answers": {"text": ["a"], "answer_start": [0]}},
        "Columns",
        {
            "prompt": "{context}\n\n{question}",
            "completion": "{answers.text[0]}",
            "references": "answers.text",
        },
    ),
    "several answers": (
        {"question": "q", "answers": ["a", "b"]},
        "Columns",
        {"prompt": "{question}", "completion": "{answers[0]}", "references": "answers"},
    ),
    "pairs of texts": ({"prompt": "q", "chosen": "a", "rejected": "b"}, "Preference", {}),
    "pairs of conversations": ({"chosen": TURNS, "rejected": TURNS, "score_chosen": 3.0}, "Preference", {}),
    "pairs of transcripts": (
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
        "Preference",
        {},
    ),
    "pairs beside conversations": (
        {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "No"}},
        "Preference",
        {"prompt": "conversations"},
    ),
    "labels": ({"prompt": "q", "completion": "a", "label": True}, "UnpairedPreference", {}),
    "labels of conversations": (
        {"messages": TURNS, "kto_tag": False},
        "UnpairedPreference",
        {"prompt": "messages", "completion": None, "label": "kto_tag"},
    ),
    "text": ({"text": "a", "id": "1", "url": "u", "token_count": 5}, "PlainText", {}),
}


@pytest.mark.parametrize(("columns", "name", "fields"), CLEAR.values(), ids=CLEAR)
def test_usual_columns_are_recognized(columns, name, fields) -> None:
    found = recognize(rows(columns, columns))
    assert [one.format.__name__ for one in found] == [name]
    assert fields.items() <= found[0].fields.items()
    built = found[0].build()
    assert not list(built.column_problems(list(columns)))
    assert not list(built.content_problems(rows(columns)))


@pytest.mark.parametrize("name", sorted(set(CLEAR) - {"messages with tool calls", "text"}))
def test_what_is_recognized_can_be_read(name) -> None:
    columns = CLEAR[name][0]
    if name == "pairs of conversations":
        other = [TURNS[0], {"role": "assistant", "content": "No"}]
        columns = columns | {"rejected": other}
    found = recognize(rows(columns))[0].build()
    assert list(found.conversations_of(rows(columns)[0]))


AMBIGUOUS = {
    "two answers": {"prompt": "a", "response": "b", "answer": "c"},
    "conversation and instruction": {"conversations": SHAREGPT, "instruction": "a", "output": "b"},
    "rating or metadata": {"prompt": "a", "completion": "b", "label": 1},
    "two questions": {"question": "a", "query": "b", "answer": "c"},
}


@pytest.mark.parametrize("columns", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_columns_have_several_formats(columns) -> None:
    assert len(recognize(rows(columns))) > 1


UNKNOWN = {
    "classes": {"text": "a", "label": 3},
    "two languages": {"translation": {"en": "a", "fr": "b"}},
    "code beside a text": {"text": "a", "code": "b", "test_list": ["c"]},
    "answers that are numbers": {"question": "a", "choices": ["x", "y"], "answer": 1},
    "pairs without a prompt": {"chosen": "a", "rejected": "b"},
    "objects that are no turns": {"question": "a", "metadata": {"source": "human", "note": "x"}},
    "empty columns": {"prompt": "", "completion": None},
}


@pytest.mark.parametrize("columns", UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_columns_have_no_format(columns) -> None:
    assert recognize(rows(columns)) == []


@pytest.mark.parametrize(
    ("columns", "name", "fields"),
    [
        ({"promt": "a", "completion": "b"}, "PromptCompletion", {"prompt": "promt"}),
        ({"instruction": "a", "ouput": "b"}, "Alpaca", {"output": "ouput"}),
        ({"choosen": "a", "rejected": "b", "prompt": "q"}, "Preference", {"chosen": "choosen"}),
    ],
)
def test_misspelled_columns_come_near_a_format(columns, name, fields) -> None:
    assert recognize(rows(columns)) == []
    found = recognize_misspelled(rows(columns))
    assert [(one.format.__name__, dict(one.fields)) for one in found] == [(name, fields)]
    assert list(found[0].build().conversations_of(rows(columns)[0]))


def test_columns_of_few_rows_do_not_count() -> None:
    plain = {"prompt": "a", "completion": "b"}
    assert [one.format.__name__ for one in recognize(rows(plain, plain, plain | {"chosen": "x", "rejected": "y"}))] == [
        "PromptCompletion"
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([TURNS, SHAREGPT]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "text", "a"]), inner),
    max_leaves=4,
)
NAMES = st.sampled_from(
    "messages conversations prompt Prompt completion instruction output chosen rejected label text x".split()
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5), min_size=1, max_size=3))
def test_every_recognized_format_builds_and_names_existing_columns(columns) -> None:
    names = list({name: None for one in columns for name in one})
    for one in recognize(rows(*columns)):
        assert not list(one.build().column_problems(names))


@given(st.permutations(list(CLEAR["Dolly"][0].items())))
def test_the_order_of_columns_does_not_matter(items) -> None:
    assert recognize(rows(dict(items))) == recognize(rows(CLEAR["Dolly"][0]))
