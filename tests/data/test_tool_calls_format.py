"""Tool calls as text, the tools in the system message, results that answer calls, and what is refused."""

import json

import jinja2
import pytest

from instruct_lab.data import Conversation, Messages, Row, ShareGPT
from instruct_lab.errors import InstructLabError

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Météo",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "day": {"type": "string"}}},
    },
}
CLOCK = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
ASK = {"role": "user", "content": "Weather in Évry?"}


def row(messages, **columns) -> Row:
    return Row({"messages": messages, **columns}, "calls.jsonl, line 5")


def call(name="weather", arguments='{"city": "Évry"}', id_="c1") -> dict:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls, content=None) -> dict:
    return {"role": "assistant", "content": content, "tool_calls": list(calls)}


def result(content="12 °C", **more) -> dict:
    return {"role": "tool", "content": content, **more}


def roles_and_texts(conversation: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in conversation.messages]


def test_a_call_and_its_result() -> None:
    found = Messages().conversation(
        row([ASK, calling(call()), result(tool_call_id="c1"), {"role": "assistant", "content": "12 °C."}])
    )
    assert roles_and_texts(found) == [
        ("user", "Weather in Évry?"),
        ("assistant", '<tool_call>\n{"name": "weather", "arguments": {"city": "Évry"}}\n</tool_call>'),
        ("tool", "12 °C"),
        ("assistant", "12 °C."),
    ]


@pytest.mark.parametrize("arguments", ['{"city":"Évry"}', {"city": "Évry"}, '{\n "city": "\\u00c9vry"}'])
def test_arguments_are_an_object_or_json_of_one(arguments) -> None:
    (_, _), (_, text) = roles_and_texts(Messages().conversation(row([ASK, calling(call(arguments=arguments))])))
    assert '"arguments": {"city": "Évry"}}' in text


@pytest.mark.parametrize("arguments", [None, "{}", {}])
def test_a_call_without_arguments(arguments) -> None:
    (_, _), (_, text) = roles_and_texts(Messages().conversation(row([ASK, calling(call("clock", arguments))])))
    assert '{"name": "clock", "arguments": {}}' in text


def test_parallel_calls_and_text_beside_them() -> None:
    turns = [
        ASK,
        calling(call(), call(arguments={"city": "Lyon"}, id_="c2"), content="Both:"),
        result("13", tool_call_id="c2", name="weather"),
        result("12", tool_call_id="c1"),
    ]
    (_, _), (_, hermes), *_ = roles_and_texts(Messages().conversation(row(turns)))
    assert hermes == (
        'Both:\n<tool_call>\n{"name": "weather", "arguments": {"city": "Évry"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Lyon"}}\n</tool_call>'
    )
    (_, _), (_, as_json), *_ = roles_and_texts(Messages(tool_convention="json").conversation(row(turns)))
    text, listed = as_json.split("\n")
    assert text == "Both:"
    assert [one["arguments"]["city"] for one in json.loads(listed)] == ["Évry", "Lyon"]


@pytest.mark.parametrize("as_text", [True, False])
def test_the_tools_stand_in_the_system_message(as_text) -> None:
    tools = [WEATHER, CLOCK]
    columns = {"tools": json.dumps(tools) if as_text else tools}
    found = Messages().conversation(row([{"role": "system", "content": "Be brief."}, ASK], **columns))
    (role, text), _ = roles_and_texts(found)
    assert role == "system"
    assert text.startswith("Be brief.\n\n# Tools\n\nYou may call one or more functions")
    listed = text.split("<tools>\n")[1].split("\n</tools>")[0].split("\n")
    assert [json.loads(line) for line in listed] == [WEATHER, {"type": "function", "function": CLOCK}]
    assert "Météo" in text
    assert found.metadata == {}
    without_calls = Messages(tool_convention="json").conversation(row([ASK], **columns))
    assert [role for role, _ in roles_and_texts(without_calls)] == ["system", "user"]
    assert without_calls.messages[0].content.startswith("# Tools\n\nYou may call these functions:\n{")


def test_the_column_of_the_tools_can_be_set_or_not_used() -> None:
    assert Messages(tools="functions").conversation(row([ASK], functions=[CLOCK])).messages[0].role == "system"
    left = Messages(tools=None).conversation(row([ASK], tools=["hammer"]))
    assert (len(left.messages), left.metadata) == (1, {"tools": ["hammer"]})
    for nothing in (None, "", []):
        assert len(Messages().conversation(row([ASK], tools=nothing)).messages) == 1


QWEN = """
{%- macro block(t) %}{{ '<|im_start|>' ~ t }}{% endmacro %}
{%- if tools %}{{ block('system\\n') }}{% if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}
{%- endif %}{{ '# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided '
 ~ 'with function signatures within <tools></tools> XML tags:\\n<tools>' }}{% for tool in tools %}{{ '\\n' ~
 tool | json }}{% endfor %}{{ '\\n</tools>\\n\\nFor each function call, return a json object with function name and '
 ~ 'arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{"name": <function-name>, "arguments": '
 ~ '<args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{ block('system\\n') ~ messages[0].content ~ '<|im_end|>\\n' }}{% endif %}
{%- for m in (messages[1:] if messages[0].role == 'system' else messages) %}{{ block(m.role ~ '\\n') }}
{{- m.content or '' }}{% set text = m.content %}{% for c in m.tool_calls or [] %}
{{- '\\n' if text or not loop.first }}{{ '<tool_call>\\n{"name": "' ~ c.function.name ~ '", "arguments": ' ~
 c.function.arguments | json ~ '}\\n</tool_call>' }}{% endfor %}
{{- '<|im_end|>\\n' }}{% endfor %}"""


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize("content", [None, "I look."])
def test_hermes_text_is_that_of_a_qwen_template(system, content) -> None:
    environment = jinja2.Environment(autoescape=False)
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(QWEN)
    opening = [{"role": "system", "content": system}] if system else []
    calls = calling(call(arguments={"city": "Évry"}), call(arguments={"city": "Lyon"}, id_="c2"), content=content)
    turns = [*opening, ASK, calls, result(tool_call_id="c1"), result(tool_call_id="c2")]
    with_calls = template.render(messages=turns, tools=[WEATHER])
    found = Messages().conversation(row(turns, tools=[WEATHER]))
    as_text = [{"role": role, "content": text} for role, text in roles_and_texts(found)]
    assert template.render(messages=as_text, tools=None) == with_calls


def test_nulls_that_a_table_adds_are_left_out() -> None:
    padded = {**WEATHER, "strict": None}
    arguments = {"city": "Évry", "day": None, "zone": None}  # day is the tool's own; zone another tool's
    found = Messages().conversation(row([ASK, calling(call(arguments=arguments))], tools=[padded]))
    assert "null" not in found.messages[0].content
    assert '"arguments": {"city": "Évry", "day": null}}' in found.messages[-1].content


def test_the_older_function_call_of_openai() -> None:
    older = {"role": "assistant", "content": None, "function_call": {"name": "clock", "arguments": "{}"}}
    found = Messages().conversation(row([ASK, older, {"role": "function", "name": "clock", "content": "12:00"}]))
    assert [role for role, _ in roles_and_texts(found)] == ["user", "assistant", "tool"]
    assert '"clock"' in found.messages[1].content


def test_sharegpt_calls_and_observations() -> None:
    turns = [
        {"from": "human", "value": "Now?"},
        {"from": "function_call", "value": '{"name": "clock", "arguments": {}}'},
        {"from": "observation", "value": "12:00"},
        {"from": "function_call", "value": '[{"name": "clock", "arguments": "{}"}, {"name": "clock"}]'},
        {"from": "observation", "value": "12:01"},
        {"from": "observation", "value": "12:02"},
        {"from": "gpt", "value": "Noon."},
    ]
    found = ShareGPT(system="s").conversation(
        Row({"conversations": turns, "tools": json.dumps([CLOCK]), "s": "Be exact."}, "x")
    )
    assert [role for role, _ in roles_and_texts(found)] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "tool",
        "assistant",
    ]
    assert found.messages[0].content.startswith("Be exact.\n\n# Tools")
    assert found.messages[2].content == '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    assert found.messages[4].content.count("<tool_call>") == 2
    as_json = ShareGPT(tool_convention="json", tools=None).conversation(Row({"conversations": turns}, "x"))
    assert as_json.messages[1].content == '[{"name": "clock", "arguments": {}}]'


def test_calls_that_are_text_already_stay_as_they_are() -> None:
    rendered = '<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>'
    for caller in ("gpt", "function_call"):
        turns = [{"from": "human", "value": "?"}, {"from": caller, "value": rendered}, {"from": "tool", "value": "12"}]
        assert roles_and_texts(ShareGPT().conversation(Row({"conversations": turns}, "x")))[1] == (
            "assistant",
            rendered,
        )
    named = [{"from": "human", "value": "?"}, {"from": "context", "value": "A page."}]
    assert (
        ShareGPT(roles={"Context": "tool"}).conversation(Row({"conversations": named}, "x")).messages[1].role == "tool"
    )


@pytest.mark.parametrize(
    ("messages", "tools", "expected"),
    [
        ([ASK, calling(call("wether"))], [WEATHER], "'wether' is called.*turn 2.*Did you mean 'weather'"),
        ([ASK, calling(call())], [], "'weather' is called"),
        ([ASK, calling(call(arguments="{'city': 'x'}"))], None, "arguments of 'weather' are not JSON.*turn 2"),
        ([ASK, calling(call(arguments=""))], None, "not JSON"),
        ([ASK, calling(call(arguments='{"a": NaN}'))], None, "NaN is not JSON"),
        ([ASK, calling(call(arguments={"a": float("inf")}))], None, "not JSON"),
        ([ASK, calling(call(arguments='{"a": 1, "a": 2}'))], None, "a key occurs twice"),
        ([ASK, calling(call(arguments='{"a": ' + "9" * 5000 + "}"))], None, "not JSON"),
        ([ASK, calling(call(arguments='{"a": ' + "[" * 100_000))], None, "nested too deeply"),
        ([ASK, calling(call(arguments="[1]"))], None, "object of arguments was expected.*list"),
        ([ASK, calling(call(arguments=3))], None, "object of arguments was expected.*int"),
        ([ASK, calling(call(arguments='{"a": "\\ud800"}'))], None, "surrogate pair"),
        ([ASK, calling(call(arguments={"a": b"x"}))], None, "not JSON"),
        ([ASK, calling({"function": {"arguments": "{}"}})], None, "NoneType found.*name of the called tool"),
        ([ASK, calling({"function": {"name": " ", "arguments": "{}"}})], None, "names no tool"),
        ([ASK, calling({"function": "weather"})], None, "expected as a call and str"),
        ([ASK, calling("weather")], None, "expected as a call and str"),
        ([ASK, {**calling(), "tool_calls": 3}], None, "list of calls was expected and int"),
        ([ASK, {**calling(), "tool_calls": "weather()"}], None, "call is not JSON"),
        ([ASK, calling(call(id_=7))], None, "int found: 7.*id of a call"),
        ([{**calling(call()), "role": "user"}], None, "Only the assistant may call"),
        ([ASK, {"role": "assistant", "content": None, "tool_calls": []}], None, "NoneType"),
        ([ASK, result()], None, "result has no call before it.*turn 2"),
        ([ASK, {"role": "assistant", "content": "Hm."}, result()], None, "no call before"),
        ([ASK, {"role": "assistant", "content": "f(x)"}, result(tool_call_id="c1")], None, "no call before"),
        ([ASK, calling(call()), result(tool_call_id="c9")], None, "no call before.*turn 3"),
        ([ASK, calling(call()), result(tool_call_id="c1"), result(tool_call_id="c1")], None, "turn 4"),
        ([ASK, calling(call()), result(name="clock")], None, "no call before"),
        ([ASK, calling(call()), result(tool_call_id="c1", name="clock")], None, "'clock' and the call of 'weather'"),
        ([ASK, calling(call()), result(tool_call_id=1)], None, "int found: 1"),
        ([ASK, calling(call()), result(12, tool_call_id="c1")], None, "int found: 12.*turn 3"),
        ([ASK], "{", "tools are not JSON.*set the format's tools to null"),
        ([ASK], {"name": "x"}, "list of tools was expected and dict"),
        ([ASK], 4, "list of tools was expected and int"),
        ([ASK], ["hammer"], "tools are not JSON"),
        ([ASK], [{"function": {"description": "x"}}], "tool has no name"),
        ([ASK], [3], "tool has no name"),
        ([ASK], [{"name": "x", "default": float("nan")}], "tools are not JSON"),
        ([ASK], [{"name": "x", "description": "\ud800"}], "surrogate pair"),
    ],
)
def test_the_error_of_an_invalid_call_or_result_names_its_turn(messages, tools, expected) -> None:
    with pytest.raises(InstructLabError, match=expected) as caught:
        Messages().conversation(row(messages, tools=tools))
    assert "calls.jsonl, line 5" in str(caught.value)


def test_a_sharegpt_call_must_be_json() -> None:
    turns = [{"from": "human", "value": "?"}, {"from": "function_call", "value": "clock()"}]
    with pytest.raises(InstructLabError, match=r"call is not JSON.*turn 2"):
        ShareGPT().conversation(Row({"conversations": turns}, "x"))


def test_an_id_used_again_in_a_later_turn() -> None:
    turns = [ASK, calling(call()), result(tool_call_id="c1"), calling(call()), result(tool_call_id="c1")]
    assert len(Messages().conversation(row(turns)).messages) == 5
    twice = [ASK, calling(call(), call()), result(tool_call_id="c1"), result(tool_call_id="c1")]
    assert len(Messages().conversation(row(twice)).messages) == 4


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [False, True])
def test_a_row_of_10000_calls_and_results(parallel) -> None:
    calls = [call(id_=f"c{index}" if index % 2 else None) for index in range(5000)]
    results = [result(tool_call_id=one["id"]) for one in calls]
    pairs = [turn for pair in zip([calling(one) for one in calls], results, strict=True) for turn in pair]
    turns = [ASK, calling(*calls), *results] if parallel else [ASK, *pairs]
    assert len(Messages().conversation(row(turns)).messages) == len(turns)
