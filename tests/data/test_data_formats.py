"""How rows become conversations, and every row that cannot."""

import pydantic
import pytest

from instruct_lab.data import Alpaca, Columns, Message, Messages, PromptCompletion, Row, ShareGPT
from instruct_lab.errors import InstructLabError

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"


def row(**columns) -> Row:
    return Row(columns, "rows.jsonl, line 7")


def spoken(conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def test_alpaca_puts_the_input_after_the_instruction() -> None:
    with_input = Alpaca().conversation(row(instruction="Add.", input="1 + 2", output="3", topic="sums"))
    assert spoken(with_input) == [(USER, "Add.\n\n1 + 2"), (ASSISTANT, "3")]
    assert with_input.metadata == {"instruction": "Add.", "input": "1 + 2", "topic": "sums"}
    for nothing in ({"input": ""}, {"input": None}, {}):
        without = Alpaca().conversation(row(instruction="Sing.", output="La", **nothing))
        assert spoken(without) == [(USER, "Sing."), (ASSISTANT, "La")]


def test_alpaca_columns_can_be_named() -> None:
    named = Alpaca(instruction="task", input=None, output="response", system="persona")
    found = named.conversation(row(task="Hi", input="unused", response="Ho", persona="A pirate"))
    assert spoken(found) == [(SYSTEM, "A pirate"), (USER, "Hi"), (ASSISTANT, "Ho")]


def test_prompt_completion() -> None:
    found = PromptCompletion(prompt="q").conversation(row(q="Hi", completion="Ho", source="web"))
    assert spoken(found) == [(USER, "Hi"), (ASSISTANT, "Ho")]
    assert found.metadata == {"source": "web"}


def test_columns_fill_text_patterns() -> None:
    columns = Columns(
        system="Speak {language}.", prompt="{{translate}} {source text}!", completion="{target}", references="all"
    )
    found = columns.conversation(
        row(**{"source text": "{a}", "target": "b", "language": "French", "all": ["b", "c"], "other": 1})
    )
    assert spoken(found) == [(SYSTEM, "Speak French."), (USER, "{translate} {a}!"), (ASSISTANT, "b")]
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
        {"from": "gpt", "value": "A"},
        {"from": "observation", "value": "T"},
        {"from": "Bot", "value": "B"},
    ]
    found = ShareGPT(roles={"bot": "assistant", "unused": None}).conversation(row(conversations=turns, id="x"))
    assert [role for role, _ in spoken(found)] == [SYSTEM, USER, ASSISTANT, "tool", ASSISTANT]
    assert found.metadata == {"id": "x"}


def test_sharegpt_keys_can_be_named_and_the_system_message_stand_outside() -> None:
    named = ShareGPT(conversations="talk", role="who", content="what", system="persona")
    found = named.conversation(row(talk=[{"who": "user", "what": "U"}], persona="P"))
    assert spoken(found) == [(SYSTEM, "P"), (USER, "U")]


def test_messages_keep_what_is_trained() -> None:
    turns = [
        {"role": "developer", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "U1"}, {"type": "text", "text": "U2"}]},
        {"role": "assistant", "content": "A", "weight": 0},
        {"role": "assistant", "content": "B", "trained": True},
    ]
    assert Messages().conversation(row(messages=turns)).messages == (
        Message(SYSTEM, "S"),
        Message(USER, "U1U2"),
        Message(ASSISTANT, "A", trained=False),
        Message(ASSISTANT, "B", trained=True),
    )


def test_the_id_is_of_what_is_said_and_of_nothing_else() -> None:
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
        (Messages(), {"messages": [{**U, "weight": 0.5}]}, "0.5 was found"),
    ],
)
def test_a_row_of_another_shape_is_told_with_file_line_and_column(format, columns, expected) -> None:
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
