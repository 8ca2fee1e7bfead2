"""How rows become conversations, and every row that cannot."""

import contextlib
import datetime
import decimal
import http
import json
import uuid

import numpy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.data import Alpaca, Columns, Message, Messages, PromptCompletion, Row, ShareGPT
from instruct_lab.data.formats.base import to_json_value
from instruct_lab.data.formats.plain_text import PlainText
from instruct_lab.data.formats.preference import Preference
from instruct_lab.data.formats.tasks import TaskFile
from instruct_lab.data.formats.templated import Templates
from instruct_lab.errors import InstructLabError

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


def row(**columns) -> Row:
    return Row(columns, "rows.jsonl, line 7")


def roles_and_texts(conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def test_alpaca_puts_the_input_after_the_instruction() -> None:
    with_input = Alpaca().conversation(row(instruction="Add.", input="1 + 2", output="3", topic="sums"))
    assert roles_and_texts(with_input) == [(USER, "Add.\n\n1 + 2"), (ASSISTANT, "3")]
    assert with_input.metadata == {"instruction": "Add.", "input": "1 + 2", "topic": "sums"}
    for nothing in ({"input": ""}, {"input": None}, {}):
        without = Alpaca().conversation(row(instruction="Sing.", output="La", **nothing))
        assert roles_and_texts(without) == [(USER, "Sing."), (ASSISTANT, "La")]


def test_alpaca_columns_can_be_named() -> None:
    named = Alpaca(instruction="task", input=None, output="response", system="persona")
    found = named.conversation(row(task="Hi", input="unused", response="Ho", persona="A pirate"))
    assert roles_and_texts(found) == [(SYSTEM, "A pirate"), (USER, "Hi"), (ASSISTANT, "Ho")]


def test_prompt_completion() -> None:
    found = PromptCompletion(prompt="q").conversation(row(q="Hi", completion="Ho", source="web"))
    assert roles_and_texts(found) == [(USER, "Hi"), (ASSISTANT, "Ho")]
    assert found.metadata == {"source": "web"}


def test_prompt_and_completion_may_be_lists_of_messages() -> None:
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1"},
        {"role": "user", "content": "q2"},
    ]
    answer = {"role": "assistant", "content": "a2"}
    for completion in ([answer], answer, "a2"):
        found = PromptCompletion().conversation(row(prompt=turns, completion=completion))
        assert [message.content for message in found.messages] == ["S", "q1", "a1", "q2", "a2"]
        assert [message.trained for message in found.messages] == [None, None, False, None, None]
    sharegpt = [{"from": "human", "value": "q"}]
    found = PromptCompletion().conversation(row(prompt=sharegpt, completion=[{"from": "gpt", "value": "a"}]))
    assert roles_and_texts(found) == [(USER, "q"), (ASSISTANT, "a")]
    flagged = [{**turns[2], "trained": True}, turns[3]]
    found = PromptCompletion().conversation(row(prompt=flagged, completion="a2"))
    assert found.messages[0].trained is True
    for broken in ([], [turns[1]], ["a"], [{"role": "assistant"}], 1):
        with pytest.raises(InstructLabError, match=r"line 7.*completion"):
            PromptCompletion().conversation(row(prompt="q", completion=broken))


def test_columns_fill_text_patterns() -> None:
    columns = Columns(
        system="Speak {language}.", prompt="{{translate}} {source text}!", completion="{target}", references="all"
    )
    found = columns.conversation(
        row(**{"source text": "{a}", "target": "b", "language": "French", "all": ["b", "c"], "other": 1})
    )
    assert roles_and_texts(found) == [(SYSTEM, "Speak French."), (USER, "{translate} {a}!"), (ASSISTANT, "b")]
    assert found.references == found.answers == ("b", "c")
    assert found.metadata == {"source text": "{a}", "language": "French", "other": 1}


@pytest.mark.parametrize("pattern", ["no column", "{a", "{}", "{a!r}", "{a:>10}"])
def test_a_pattern_that_cannot_be_filled_is_refused(pattern) -> None:
    with pytest.raises(pydantic.ValidationError, match="prompt"):
        Columns(prompt=pattern, completion="{b}")


def test_sharegpt_knows_the_usual_names_of_roles() -> None:
    turns = [
        {"from": "system", "value": "S"},
        {"from": "human", "value": "U"},
        {"from": "gpt", "value": "search(A)"},
        {"from": "observation", "value": "T"},
        {"from": "Bot", "value": "B"},
    ]
    found = ShareGPT(roles={"bot": "assistant", "unused": None}).conversation(row(conversations=turns, id="x"))
    assert [role for role, _ in roles_and_texts(found)] == [SYSTEM, USER, ASSISTANT, "tool", ASSISTANT]
    assert found.metadata == {"id": "x"}


def test_sharegpt_keys_can_be_named_and_the_system_message_stand_outside() -> None:
    named = ShareGPT(conversations="talk", role="who", content="what", system="persona")
    found = named.conversation(row(talk=[{"who": "user", "what": "U"}], persona="P"))
    assert roles_and_texts(found) == [(SYSTEM, "P"), (USER, "U")]


def test_messages_keep_whether_they_are_trained() -> None:
    turns = [
        {"role": "developer", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "U1"}, {"type": "text", "text": "U2"}]},
        {"role": "assistant", "content": "A", "weight": 0},
        {"role": "assistant", "content": "B", "trained": True},
        {"role": "assistant", "content": "C", "weight": 0.25},
        {"role": "assistant", "content": "D", "weight": 2, "trained": True},
        {"role": "assistant", "content": "E", "weight": 2, "trained": False},
        {"role": "assistant", "content": "F", "weight": 1},
    ]
    assert Messages().conversation(row(messages=turns)).messages == (
        Message(SYSTEM, "S"),
        Message(USER, "U1U2"),
        Message(ASSISTANT, "A", trained=False),
        Message(ASSISTANT, "B", trained=True),
        Message(ASSISTANT, "C", trained=True, weight=0.25),
        Message(ASSISTANT, "D", trained=True, weight=2.0),
        Message(ASSISTANT, "E", trained=False),
        Message(ASSISTANT, "F", trained=True),
    )


def test_the_id_depends_only_on_the_texts() -> None:
    first = PromptCompletion().conversation(row(prompt="a", completion="b", other=1))
    second = PromptCompletion().conversation(row(prompt="a", completion="b", other=2))
    third = PromptCompletion().conversation(row(prompt="ab", completion=""))
    assert first.id == second.id != third.id
    assert first.id == "8d7c3be0f667e75f"  # the same on every machine


U = {"role": "user", "content": "u"}


@pytest.mark.parametrize(
    ("format", "columns", "expected"),
    [
        (Alpaca(), {"instruction": "a"}, r"no column 'output'.*line 7"),
        (Alpaca(), {"instruction": 3, "output": "b"}, r"int found: 3.*line 7, column 'instruction'"),
        (Alpaca(), {"instruction": "a", "input": ["x"], "output": "b"}, "column 'input'"),
        (PromptCompletion(), {"promt": "a", "completion": "b"}, "Did you mean 'promt'.*promt, completion"),
        (PromptCompletion(), {"prompt": "a", "completion": None}, "NoneType found"),
        (PromptCompletion(), {"prompt": "a \ud800", "completion": "b"}, "surrogate pair at character 2"),
        (Columns(prompt="{a}", completion="{b}"), {"a": "x", "c": "y"}, r"no column 'b'.*a, c"),
        (Columns(prompt="{a}", completion="{a}", references="r"), {"a": "x", "r": [1]}, "column 'r'"),
        (Columns(prompt="{a}", completion="{a}", references="r"), {"a": "x", "r": None}, "column 'r'"),
        (ShareGPT(), {"messages": []}, "no column 'conversations'"),
        (ShareGPT(), {"conversations": "text"}, "list of turns was expected and str"),
        (ShareGPT(), {"conversations": []}, "list of turns is empty"),
        (ShareGPT(), {"conversations": ["a"]}, r"An object was expected and str found.*turn 1"),
        (ShareGPT(), {"conversations": [{"from": "human", "text": "a"}]}, "no 'value'.*from, text"),
        (ShareGPT(), {"conversations": [{"from": "humam", "value": "a"}]}, "'humam' is unknown.*'human'"),
        (ShareGPT(), {"conversations": [{"from": 1, "value": "a"}]}, "turn 1"),
        (ShareGPT(), {"conversations": [{"from": "gpt", "value": None}]}, "NoneType"),
        (Messages(), {"messages": [U, {"role": "assistant", "content": None}]}, r"NoneType.*turn 2"),
        (Messages(), {"messages": [U, {"content": "a"}]}, "no 'role'"),
        (Messages(), {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Only text parts"),
        (Messages(), {"messages": [{**U, "weight": -0.5}]}, "-0.5 was found"),
        (Messages(), {"messages": [{**U, "weight": "1"}]}, "'1' was found"),
        (Messages(), {"messages": [{**U, "trained": 0.5}]}, "0.5 was found"),
    ],
)
def test_the_error_of_a_row_that_does_not_match_names_file_line_and_column(format, columns, expected) -> None:
    with pytest.raises(InstructLabError, match=expected) as caught:
        format.conversation(Row(columns, "rows.jsonl, line 7"))
    assert "rows.jsonl, line 7" in str(caught.value)


@pytest.mark.parametrize(
    ("format", "needed"),
    [
        (Alpaca(), {"instruction": ["instruction"], "output": ["output"]}),
        (Alpaca(system="s"), {"instruction": ["instruction"], "output": ["output"], "system": ["s"]}),
        (PromptCompletion(), {"prompt": ["prompt"], "completion": ["completion"]}),
        (
            Columns(prompt="{a} {b}", completion="{c}", references="d"),
            {"prompt": ["a", "b"], "completion": ["c"], "references": ["d"]},
        ),
        (ShareGPT(), {"conversations": ["conversations"]}),
        (Messages(messages="m"), {"messages": ["m"]}),
    ],
)
def test_a_format_says_which_columns_it_needs(format, needed) -> None:
    assert format.required() == needed
    assert not list(format.column_problems([column for columns in needed.values() for column in columns]))
    problems = list(format.column_problems(["x"]))
    assert [(problem.key, problem.value) for problem in problems] == [
        (field, column) for field, columns in needed.items() for column in columns
    ]
    with pytest.raises(InstructLabError, match="columns: x"):
        format.check_columns(Row({"x": ""}, "rows.jsonl, line 1"))


NESTED = {
    "translation": {"en": "Hello", "fr": "Bonjour"},
    "answers": {"text": ["Paris", "in Paris"], "answer_start": [3, 5]},
    "turns": [{"text": "a"}, {"text": "b"}],
    "choices": ["no", "yes"],
    "label": 1,
    "answer_key": "fr",
    "a.b": "plain",
    "c.d": {"e": "deep"},
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("translation.en", "Hello"),
        ("answers.text[0]", "Paris"),
        ("answers.text[-1]", "in Paris"),
        ("turns[1].text", "b"),
        ("turns.text[0]", "a"),
        ("choices[label]", "yes"),
        ("translation[answer_key]", "Bonjour"),
        ("a.b", "plain"),
        ("c.d.e", "deep"),
    ],
)
def test_a_name_reaches_into_objects_and_lists(name, text) -> None:
    columns = Columns(prompt=f"Say {{{name}}}", completion="{a.b}")
    columns.check_columns(Row(NESTED, "x"))
    assert columns.conversation(Row(NESTED, "x")).messages[0].content == f"Say {text}"
    assert PromptCompletion(prompt=name, completion="a.b").conversation(Row(NESTED, "x")).messages[0].content == text


def test_references_reach_into_lists() -> None:
    columns = Columns(prompt="{translation.en}", completion="{answers.text[0]}", references="answers.text")
    found = columns.conversation(Row(NESTED, "x"))
    assert found.references == ("Paris", "in Paris")
    assert found.metadata["answers"] == NESTED["answers"]  # not fully contained in the references
    of_objects = Columns(prompt="{translation.en}", completion="{a.b}", references="turns.text")
    assert of_objects.conversation(Row(NESTED, "x")).references == ("a", "b")


@pytest.mark.parametrize("answers", [{"text": []}, []])
def test_a_row_without_references_is_broken(answers) -> None:
    columns = Columns(prompt="{q}", completion="{q}", references="answers.text")
    with pytest.raises(InstructLabError, match=r"no acceptable answer.*line 7, column 'answers.text'"):
        columns.conversation(row(q="Who?", answers=answers))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("translation.de", "object has no 'de'.*column 'translation'.*en, fr"),
        ("answers.text", r"a list found.*such as answers.text\[0\]"),
        ("answers.text[2]", r"list has 2 elements.*column 'answers.text'"),
        ("answers.text.x", "object with 'x' was expected and str"),
        ("answers.answer_start[0]", "int found: 3"),
        ("translation[0]", "list was expected for the index '0' and dict"),
        ("choices[answer_key]", "'fr' is not an index"),
        ("choices[nothing]", "no column 'nothing'"),
        ("label.x", "object with 'x' was expected and int"),
        ("a.c", "no column 'a.c'"),
        ("translation..en", "no column"),
    ],
)
def test_a_name_that_refers_to_nothing_is_an_error(name, expected) -> None:
    with pytest.raises(InstructLabError, match=expected) as caught:
        PromptCompletion(prompt=name, completion="a.b").conversation(Row(NESTED, "rows.jsonl, line 7"))
    assert "rows.jsonl, line 7" in str(caught.value)


def test_only_the_first_part_of_a_name_is_looked_for_in_advance() -> None:
    columns = Columns(prompt="{translation.en}", completion="{missing.en}", references="answers.text")
    problems = list(columns.column_problems(["translation", "answers"]))
    assert [(problem.key, problem.value) for problem in problems] == [("completion", "missing.en")]


def test_optional_columns_may_be_nested_too() -> None:
    alpaca = Alpaca(input="extra.text", system="extra.system")
    found = alpaca.conversation(row(instruction="Add.", output="3", extra={"text": "1 + 2", "system": None}))
    assert roles_and_texts(found) == [(USER, "Add.\n\n1 + 2"), (ASSISTANT, "3")]


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02T03:04:00+00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(hours=1), "1:00:00"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\x00", "/wA="),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1.5, 1.5),
        (True, True),
        (None, None),
        (10**30, 10**30),
        (http.HTTPStatus.OK, 200),
        ("half \ud83d", "half \ufffd"),
        pytest.param({"b", "a"}, ["a", "b"], id="a set"),
        ((1, (2,)), [1, [2]]),
        ({1: {None: b"x"}}, {"1": {"None": "x"}}),
        (numpy.int64(3), 3),
        (numpy.float32(0.5), 0.5),
        (numpy.bool_(True), True),
        (numpy.str_("a"), "a"),
        (numpy.array([[1, 2]]), [[1, 2]]),
        (numpy.datetime64("2026-01-02"), "2026-01-02"),
        (numpy.array([float("nan")]), ["nan"]),
    ],
    ids=repr,
)
def test_metadata_are_json_values(value, expected) -> None:
    found = PromptCompletion().conversation(row(prompt="a", completion="b", other=value)).metadata["other"]
    assert found == expected
    assert type(found) is type(expected)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    json.dumps(found, ensure_ascii=False).encode()


def test_metadata_of_any_other_kind_is_the_same_text_in_every_run() -> None:
    assert " at 0x" not in to_json_value(Odd())
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InstructLabError, match=r"nested too deeply.*line 7"):
        PromptCompletion().conversation(row(prompt="a", completion="b", other=deep))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(value=JSON_VALUES)
def test_json_values_stay_unchanged(value) -> None:
    assert to_json_value(value) == value


FORMATS = [
    Alpaca(instruction="prompt", output="chosen"),
    PromptCompletion(prompt="prompt.a", completion="chosen[0]"),
    Columns(prompt="{prompt}", completion="{prompt}", references="chosen.a[0]"),
    ShareGPT(conversations="chosen"),
    Messages(messages="chosen"),
    Preference(margin="margin"),
    TaskFile(definition="prompt", input="prompt", output="chosen", positive_examples="rejected"),
    Templates(templates={"a": "{prompt} ||| {chosen}"}),
    Templates(templates={"a": "{{ prompt }} ||| {{ chosen | choice }}"}, syntax="jinja"),
    PlainText(text="prompt"),
]
COLUMN_NAMES = ["prompt", "chosen", "rejected", "margin", "tools"]
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "x", 3]), "content": st.text(max_size=3) | JSON_VALUES},
    optional={
        "tool_calls": JSON_VALUES,
        "tool_call_id": JSON_VALUES,
        "from": st.text(max_size=3),
        "value": JSON_VALUES,
    },
)


@pytest.mark.slow
@given(columns=st.dictionaries(st.sampled_from(COLUMN_NAMES), JSON_VALUES | st.lists(TURNS, max_size=4)))
@pytest.mark.parametrize("format", FORMATS, ids=lambda format: type(format).__name__)
def test_a_row_is_a_conversation_or_a_broken_row_and_nothing_else(format, columns) -> None:
    conversations = []
    with contextlib.suppress(InstructLabError):
        conversations = list(format.conversations_of(Row(columns, "x")))
    for conversation in conversations:
        json.dumps([str(conversation), conversation.metadata], ensure_ascii=False, allow_nan=False).encode()
