"""What a row says beside its texts: used, refused by name, or reported."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instruct_lab.cache import Store
from instruct_lab.data import (
    Alpaca,
    Columns,
    Files,
    Message,
    Messages,
    Preference,
    PromptCompletion,
    Row,
    ShareGPT,
    TaskFile,
    UnpairedPreference,
)
from instruct_lab.data.dataset import DataSet
from instruct_lab.data.formats.plain_text import PlainText
from instruct_lab.data.formats.templated import Templates
from instruct_lab.data.formats.turn_keys import FLAG_KEYS, HARMLESS_KEYS, REASONING_KEYS, UNCLEAR_FLAGS
from instruct_lab.data.formats.turns import MESSAGES_KEYS
from instruct_lab.data.formats.unused import CONTENT_COLUMNS, is_empty
from instruct_lab.data.stages import audit_of
from instruct_lab.errors import InstructLabError


def row(**columns) -> Row:
    return Row(columns, "rows.jsonl, line 7")


def as_messages(turns, format=None, **columns):
    return (format or Messages()).conversation(row(messages=turns, **columns)).messages


def as_sharegpt(turns, format=None, **columns):
    names = {"role": "from", "content": "value"}
    renamed = [{names.get(key, key): value for key, value in turn.items()} for turn in turns]
    return (format or ShareGPT()).conversation(row(conversations=renamed, **columns)).messages


def as_chosen(turns, format=None, **columns):
    rejected = [turns[0], {"role": "assistant", "content": "rejected"}]
    return (format or Preference()).conversation(row(chosen=turns, rejected=rejected, **columns)).messages


def as_completion(turns, format=None, **columns):
    return (format or PromptCompletion()).conversation(row(prompt=turns[:1], completion=turns[1:], **columns)).messages


def as_labelled(turns, format=None, **columns):
    format = format or UnpairedPreference()
    return format.conversation(row(prompt=turns[:1], completion=turns[1:], label=True, **columns)).messages


READERS = [
    pytest.param(as_messages, Messages, id="messages"),
    pytest.param(as_sharegpt, ShareGPT, id="sharegpt"),
    pytest.param(as_chosen, Preference, id="preference"),
    pytest.param(as_completion, PromptCompletion, id="completion"),
    pytest.param(as_labelled, UnpairedPreference, id="unpaired"),
]
ASK = {"role": "user", "content": "u"}


def answer(**keys) -> dict:
    return {"role": "assistant", "content": "a", **keys}


@pytest.mark.parametrize(("read", "format"), READERS)
@pytest.mark.parametrize("key", ["trained", "train", "training", "trainable", "loss", "loss_mask"])
@pytest.mark.parametrize(("value", "expected"), [(False, False), (1, True), ("False", False), (None, None)])
def test_flags_of_other_tools_are_read_alike_in_all_formats(read, format, key, value, expected) -> None:
    assert read([ASK, answer(**{key: value})])[-1].trained is expected


@pytest.mark.parametrize(("read", "format"), READERS)
def test_weights_and_masks_are_read_alike_in_all_formats(read, format) -> None:
    assert read([ASK, answer(weight=0)])[-1] == Message("assistant", "a", trained=False)
    assert read([ASK, answer(loss_weight=0.5)])[-1] == Message("assistant", "a", trained=True, weight=0.5)
    assert read([ASK, answer(loss_scale=0.0, train=True)])[-1].trained is False
    assert read([ASK, answer(masked=True)])[-1].trained is False
    assert read([ASK, answer(mask=True)], format(flags={"mask": "untrained"}))[-1].trained is False
    assert read([ASK, answer(ours=1)], format(flags={"ours": "trained"}))[-1].trained is True


@pytest.mark.parametrize(("read", "format"), READERS)
@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"mask": 1}, r"'mask' cannot be used.*ignore_keys=\[mask\].*flags.mask"),
        ({"train_detail": [{"begin_offset": 0, "end_offset": 1, "train": False}]}, "'train_detail'.*parts of a turn"),
        ({"loss": True, "train": False}, "'loss' and 'train' contradict"),
        ({"weight": 1, "loss_weight": 2}, "two weights, 1.0 .'weight'. and 2 .'loss_weight'."),
        ({"loss": "no"}, "loss must be true or false; 'no'"),
        ({"loss_mask": [0, 1]}, "loss_mask must be true or false"),
        ({"weight": -1}, "weight must be a number"),
        ({"images": ["cat.png"]}, r"'images'.*cat.png.*turn.*ignore_keys=\[images\]"),
        ({"conten": "b"}, r"'conten'.*ignore_keys=\[conten\]"),
        ({"refusal": "I cannot"}, "'refusal'"),
        ({"score": 0}, "'score'"),
        ({"reasoning_content": "t"}, "'reasoning_content'.*reasoning=think_tags.*reasoning=drop"),
        ({"thinking": "t"}, "'thinking'"),
    ],
)
def test_a_key_that_is_not_used_is_an_error_that_names_it(read, format, keys, expected) -> None:
    with pytest.raises(InstructLabError, match=f"(?s){expected}") as raised:
        read([ASK, answer(**keys)])
    assert "line 7" in str(raised.value)


@pytest.mark.parametrize(("read", "format"), READERS)
def test_keys_that_describe_a_turn_and_keys_without_value_are_accepted(read, format) -> None:
    nothing = {"refusal": None, "audio": None, "tool_calls": [], "images": [], "reasoning_content": "", "loss": None}
    assert read([ASK, answer(id=3, timestamp=1.5, model="m", **nothing)])[-1] == Message("assistant", "a")
    ignored = format(ignore_keys=["score", "loss", "thinking"])
    assert read([ASK, answer(score=3, loss=False, thinking="t")], ignored)[-1] == Message("assistant", "a")


@pytest.mark.parametrize(("read", "format"), READERS)
def test_reasoning_is_written_before_the_answer_or_left_out(read, format) -> None:
    tagged = read([ASK, answer(reasoning_content="Because.\n")], format(reasoning="think_tags"))
    assert tagged[-1].content == "<think>\nBecause.\n</think>\n\na"
    both = read([ASK, answer(reasoning="r", reasoning_content="r")], format(reasoning="think_tags"))
    assert both[-1].content == "<think>\nr\n</think>\n\na"
    assert read([ASK, answer(thinking="t")], format(reasoning="drop"))[-1].content == "a"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([{**ASK, "thinking": "t"}, answer()], "it is the user's"),
        ([ASK, answer(thinking="t", reasoning="r")], "its keys differ"),
        ([ASK, {**answer(thinking="t"), "content": "<think>t</think>a"}], "the text has <think> too"),
    ],
)
def test_reasoning_that_cannot_be_written_is_refused(turns, reason) -> None:
    with pytest.raises(InstructLabError, match=reason):
        as_messages(turns, Messages(reasoning="think_tags"))


def test_calls_and_parts_of_a_content_have_no_key_that_is_not_used() -> None:
    for call in ({"name": "f", "parameters": {"x": 1}}, {"function": {"name": "f", "args": {}, "extra": 1}}):
        with pytest.raises(InstructLabError, match="would not be used"):
            as_messages([ASK, {"role": "assistant", "content": None, "tool_calls": [call]}])
    call = {"id": "1", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}", "output": None}}
    assert "f" in as_messages([ASK, {"role": "assistant", "content": None, "tool_calls": [call]}])[-1].content
    with pytest.raises(InstructLabError, match="both tool_calls and function_call"):
        as_messages([ASK, answer(tool_calls=[call], function_call={"name": "f"})])
    with pytest.raises(InstructLabError, match="'file'"):
        as_messages([{"role": "user", "content": [{"type": "text", "text": "a", "file": "b.pdf"}]}, answer()])


@pytest.mark.parametrize(("read", "format"), READERS)
def test_the_system_column_opens_the_conversation(read, format) -> None:
    assert read([ASK, answer()], system="Be brief.")[0] == Message("system", "Be brief.")
    assert read([ASK, answer()], format(system="persona"), persona="P")[0] == Message("system", "P")
    assert read([ASK, answer()], format(system=None), system="left out")[0].role == "user"
    assert read([ASK, answer()], format(ignore_columns=["system"]), system="left out")[0].role == "user"
    for empty in ("", " ", None):
        assert read([ASK, answer()], system=empty)[0].role == "user"


def test_a_system_column_and_a_system_turn_are_one_if_they_are_equal() -> None:
    turns = [{"role": "system", "content": "S"}, ASK, answer()]
    assert [message.role for message in as_messages(turns, system="S ")] == ["system", "user", "assistant"]
    with pytest.raises(InstructLabError, match=r"different system messages.*system=null"):
        as_messages(turns, system="T")


def test_alpaca_reads_system_and_history() -> None:
    history = [["q1", "a1"], ["q2", "a2"]]
    for written in (history, json.dumps(history)):
        found = Alpaca().conversation(row(instruction="i", output="o", system="S", history=written)).messages
        assert [message.content for message in found] == ["S", "q1", "a1", "q2", "a2", "i", "o"]
    for empty in (None, [], "", "[]"):
        assert len(Alpaca().conversation(row(instruction="i", output="o", history=empty)).messages) == 2
    for broken in (["q"], [["q", "a", "b"]], [["q", 1]], "[", {"q": "a"}):
        with pytest.raises(InstructLabError, match="history"):
            Alpaca().conversation(row(instruction="i", output="o", history=broken))


ALPACA = {"instruction": "i", "output": "o"}


@pytest.mark.parametrize(
    ("format", "columns", "column", "do"),
    [
        (Alpaca(), ALPACA | {"images": ["x.png"]}, "images", r"ignore_columns=\[images\]"),
        (Alpaca(), ALPACA | {"context": "c"}, "context", "input=context"),
        (Alpaca(), ALPACA | {"system_prompt": "c"}, "system_prompt", "system=system_prompt"),
        (Alpaca(), ALPACA | {"weight": 0}, "weight", "ignore_columns"),
        (Messages(), {"messages": [ASK], "system_prompt": "s"}, "system_prompt", "system=system_prompt"),
        (Messages(), {"messages": [ASK], "Images": ["x"]}, "Images", "ignore_columns"),
        (Messages(), {"messages": [ASK], "functions": [{"name": "f"}]}, "functions", "tools=functions"),
        (PromptCompletion(), {"prompt": "p", "completion": "c", "thinking": "t"}, "thinking", "ignore_columns"),
        (PromptCompletion(), {"prompt": "p", "completion": "c", "context": "t"}, "context", "ignore_columns"),
        (Columns(prompt="{q}", completion="{a}"), {"q": "q", "a": "a", "system": "s"}, "system", "ignore_columns"),
        (PlainText(), {"text": "t", "loss": False}, "loss", "ignore_columns"),
        (Templates(templates={"t": "{q} ||| {a}"}), {"q": "q", "a": "a", "image": "x"}, "image", "ignore_columns"),
        (
            Templates(templates={"t": "{{ q }} ||| {{ a }}"}, syntax="jinja"),
            {"q": "q", "a": "a", "history": ["x"]},
            "history",
            "ignore_columns",
        ),
    ],
)
def test_a_column_of_content_or_flags_that_is_not_read_is_an_error(format, columns, column, do) -> None:
    with pytest.raises(InstructLabError, match=f"(?s){column}.*line 7.*{do}"):
        format.conversation(row(**columns))
    problem = next(format.content_problems([row(**columns)]))
    assert problem.key == "ignore_columns"
    assert column in str(problem)
    assert problem.refuses
    for empty in (None, "", [], {}, [None], {"a": None}):
        assert not list(format.content_problems([row(**(columns | {column: empty}))]))
    fields = {
        name: getattr(format, name) for name in ("prompt", "completion", "templates", "syntax") if hasattr(format, name)
    }
    ignoring = type(format)(ignore_columns=[column], **fields)
    assert ignoring.conversation(row(**columns)).metadata[column] == columns[column]


def test_columns_in_patterns_and_tested_by_templates_are_read() -> None:
    columns = Columns(prompt="{tools[0].name} {q}", completion="{a}")
    assert not columns.unused_columns(row(q="q", a="a", tools=[{"name": "n"}]))
    templates = Templates(
        templates={"t": "{{ q }}{% if system is defined %}{{ system }}{% endif %}|||a"}, syntax="jinja"
    )
    assert templates.conversation(row(q="q", system="s")).messages[0].content == "qs"


def build(tmp_path, rows, format):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(columns) + "\n" for columns in rows))
    data = DataSet(train={"file": Files(path=str(path))}, format=format)
    return data, audit_of(Store(tmp_path / "cache").result([data.stage(tmp_path)]))


def test_columns_that_are_not_used_are_counted_and_check_reports_those_of_content(tmp_path) -> None:
    rows = [
        {"prompt": f"p{i}", "completion": "c", "id": i, "topic": "x" if i % 2 else "", "image": None} for i in range(4)
    ]
    data, audit = build(tmp_path, rows, PromptCompletion())
    assert audit["facts"]["data/train/file"] == {"unused_columns": {"id": 4, "topic": 2}}
    assert not list(data.problems())
    (tmp_path / "rows.jsonl").write_text('{"prompt": "p", "completion": "c", "image": "x.png"}\n')
    assert [problem.key for problem in data.problems()] == ["format.ignore_columns"]


VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=2)


TURN_KEYS = st.text(min_size=1) | st.sampled_from([*FLAG_KEYS, *REASONING_KEYS, "name"])


@pytest.mark.slow
@pytest.mark.parametrize(("read", "format"), READERS)
@given(extra=st.dictionaries(TURN_KEYS, VALUES))
def test_no_key_of_a_turn_vanishes(read, format, extra) -> None:
    known = {*MESSAGES_KEYS, "from", "value"} - FLAG_KEYS - {*REASONING_KEYS}
    extra = {key: value for key, value in extra.items() if key not in known}
    try:
        found, error = read([ASK, answer(**extra)]), ""
    except InstructLabError as raised:
        found, error = None, str(raised)
    says_something = {key for key, value in extra.items() if value not in (None, "", [], {})} - HARMLESS_KEYS
    if found is None:
        assert any(key in error for key in extra)
    else:
        assert says_something <= FLAG_KEYS - {*UNCLEAR_FLAGS}
        assert (found[-1].trained is None) == (not says_something)


TURNS = [ASK, answer()]
ROWS = [
    pytest.param(Messages(), {"messages": TURNS}, id="messages"),
    pytest.param(
        ShareGPT(), {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}, id="sharegpt"
    ),
    pytest.param(PromptCompletion(), {"prompt": "p", "completion": "c"}, id="completion"),
    pytest.param(UnpairedPreference(), {"prompt": "p", "completion": "c", "label": True}, id="unpaired"),
    pytest.param(
        UnpairedPreference(prompt="messages", completion=None, label="rating", threshold=3),
        {"messages": TURNS, "rating": 4},
        id="unpaired conversation",
    ),
    pytest.param(Preference(), {"prompt": "p", "chosen": "c", "rejected": "r"}, id="preference"),
    pytest.param(
        Preference(), {"chosen": TURNS, "rejected": [ASK, {**answer(), "content": "r"}]}, id="preference of messages"
    ),
    pytest.param(Alpaca(), ALPACA, id="alpaca"),
    pytest.param(Columns(prompt="{q}", completion="{a}"), {"q": "q", "a": "a"}, id="columns"),
    pytest.param(PlainText(), {"text": "t"}, id="text"),
    pytest.param(Templates(templates={"t": "{q} ||| {a}"}), {"q": "q", "a": "a"}, id="templates"),
    pytest.param(
        Templates(templates={"t": "{{ q }} ||| {{ a }}"}, syntax="jinja"), {"q": "q", "a": "a"}, id="jinja templates"
    ),
    pytest.param(TaskFile(), {"definition": "d", "input": "i", "output": ["o"]}, id="tasks"),
]


def conversation_or_error(format, written):
    """The row's conversation and no error, or the text of its error."""
    try:
        return format.conversation(written), ""
    except InstructLabError as error:
        return None, str(error)


@pytest.mark.slow
@pytest.mark.parametrize(("format", "columns"), ROWS)
@given(extra=st.dictionaries(st.text(min_size=1) | st.sampled_from(["history", "input", *CONTENT_COLUMNS]), VALUES))
def test_no_column_of_a_row_vanishes(format, columns, extra) -> None:
    extra = {name: value for name, value in extra.items() if name not in columns and not is_empty(value)}
    written = Row(columns | extra, "rows.jsonl, line 7")
    found, error = conversation_or_error(format, written)
    if found is None:
        assert any(repr(name) in error for name in extra)
        return
    texts = "\n".join(message.content for message in found.messages)
    for name, value in extra.items():
        if isinstance(value, str) and name not in format.unused_columns(written):
            assert value in texts
        else:
            assert name in format.unused_columns(written), "it is reported below the results"
            assert format.how_to_read(name, value) is None
            assert name in found.metadata or not name.isprintable()


@pytest.mark.parametrize(("format", "columns"), ROWS)
@pytest.mark.parametrize("column", ["label", "kto_tag", "Label"])
@pytest.mark.parametrize("value", [True, False, "False", " true"])
def test_a_label_of_the_answer_is_never_ignored(format, columns, column, value) -> None:
    if column in columns:
        return
    with pytest.raises(InstructLabError, match=rf"{column}.*(local_unpaired_preference|label={column})"):
        format.conversation(row(**columns, **{column: value}))
    for other in (3, "positive", 0.5):  # the class of a text, say
        assert format.conversation(row(**columns, **{column: other})).desirable in (None, True)
