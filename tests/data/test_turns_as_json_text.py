"""Messages in a cell of CSV: JSON text is read like the list that it holds, and broken text is a broken row."""

import csv
import json

import pytest

from instruct_lab.data import Audit, Files, Message, Messages, Preference, PromptCompletion, Row, ShareGPT
from instruct_lab.errors import InstructLabError

ASK, REPLY, OTHER = (
    {"role": "user", "content": 'Say "a,b"\nplease'},
    {"role": "assistant", "content": "a;b"},
    {"role": "assistant", "content": "no"},
)


def sharegpt(turn):
    names = {"user": "human", "assistant": "gpt"}
    return {"from": names[turn["role"]], "value": turn["content"]}


LAYOUTS = [
    pytest.param(Messages(), {"messages": [ASK, REPLY]}, id="messages"),
    pytest.param(ShareGPT(), {"conversations": [sharegpt(ASK), sharegpt(REPLY)]}, id="sharegpt"),
    pytest.param(Preference(), {"chosen": [ASK, REPLY], "rejected": [ASK, OTHER]}, id="pair"),
    pytest.param(Preference(), {"prompt": [ASK], "chosen": REPLY, "rejected": OTHER}, id="pair of single messages"),
    pytest.param(
        Preference(prompt="conversations"),
        {"conversations": [sharegpt(ASK)], "chosen": sharegpt(REPLY), "rejected": sharegpt(OTHER)},
        id="pair of sharegpt",
    ),
    pytest.param(PromptCompletion(), {"prompt": [ASK], "completion": [REPLY]}, id="completion"),
    pytest.param(PromptCompletion(), {"prompt": ASK["content"], "completion": [REPLY]}, id="text and messages"),
]


def as_cells(columns):
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in columns.items()}


@pytest.mark.parametrize(("format", "columns"), LAYOUTS)
@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_json_text_in_a_cell_is_read_like_the_list(tmp_path, format, columns, ending) -> None:
    file, cells = tmp_path / f"rows.{ending}", as_cells(columns)
    with file.open("w", encoding="utf-8", newline="") as stream:
        if ending == "jsonl":
            stream.write(json.dumps(cells) + "\n")
        else:
            writer = csv.DictWriter(stream, list(cells), delimiter="," if ending == "csv" else "\t")
            writer.writeheader()
            writer.writerow(cells)
    [read] = Files(path=str(file), quoting="standard").rows(tmp_path, Audit(), "s")
    assert format.conversation(read) == format.conversation(Row(columns, ""))


@pytest.mark.parametrize(("format", "columns"), LAYOUTS)
def test_broken_json_text_is_a_broken_row_that_names_its_column(format, columns) -> None:
    for name, value in columns.items():
        if isinstance(value, str):
            continue
        for text, do in ((json.dumps(value)[:-1], "Correct the row"), (str(value), "json.dumps")):
            cells = as_cells(columns) | {name: text}
            with pytest.raises(InstructLabError, match=rf"(?s)messages are not JSON.*line 5, column '{name}'.*{do}"):
                format.conversation(Row(cells, "rows.csv, line 5"))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "f", "arguments": {}}',
        '[{"name": "f"}]',
        '[{"role": "admin"}, {"role": "guest"}]',
        '{"content": "cut off',
        "[1, 2]",
        '{"name": ',
        "{role}",
        "[]",
    ],
)
def test_an_answer_that_is_json_or_code_stays_text(text) -> None:
    found = PromptCompletion().conversation(Row({"prompt": "p", "completion": text}, ""))
    assert found.messages[-1] == Message("assistant", text)
    pair = Preference().conversation(Row({"prompt": "p", "chosen": text, "rejected": "no"}, ""))
    assert pair.messages[-1] == Message("assistant", text)


@pytest.mark.parametrize(
    ("text", "reason"), [("Hi", "str found"), ("[{", "not JSON"), ("[]", "is empty"), ("", "str found")]
)
def test_a_cell_without_turns_is_a_broken_row(text, reason) -> None:
    for format, column in ((Messages(), "messages"), (ShareGPT(), "conversations")):
        with pytest.raises(InstructLabError, match=f"(?s){reason}.*line 2"):
            format.conversation(Row({column: text}, "rows.csv, line 2"))


def test_a_key_that_occurs_twice_is_not_json() -> None:
    text = '[{"role": "user", "role": "assistant", "content": "a"}]'
    with pytest.raises(InstructLabError, match="a key occurs twice"):
        Messages().conversation(Row({"messages": text}, ""))
