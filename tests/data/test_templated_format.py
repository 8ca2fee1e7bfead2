"""Several templates a task: how one is drawn, what it makes, and what is refused."""

from collections import Counter

import pydantic
import pytest

from instruct_lab.data import Row
from instruct_lab.data.formats.templated import Templates
from instruct_lab.errors import InstructLabError

THREE = {"a": "A {q} ||| {r}", "b": "B {q} ||| {r}", "c": "C {q} ||| {r}"}


def row(**columns) -> Row:
    return Row(columns, "rows.jsonl, line 2")


def rows(number: int) -> list[Row]:
    return [row(q=f"q{index}", r=f"r{index}") for index in range(number)]


def texts(conversation) -> list[str]:
    return [message.content for message in conversation.messages]


def drawn(format: Templates, rows: list[Row]) -> list[str]:
    return [format.conversation(row).metadata["template"] for row in rows]


def test_a_template_is_a_prompt_and_an_answer() -> None:
    found = Templates(templates={"only": "Ask: {q}\n||| {r} ", "none": None}).conversation(row(q="1 ||| {x}", r=" so "))
    assert texts(found) == ["Ask: 1 ||| {x}", "so"]
    assert found.references == ()
    assert found.metadata["template"] == "only"
    assert found.metadata["q"] == "1 ||| {x}"


def test_further_parts_are_other_acceptable_answers() -> None:
    found = Templates(templates={"t": "{q} ||| {r} ||| {s} ||| {r}"}).conversation(row(q="1", r="a", s="b"))
    assert texts(found) == ["1", "a"]
    assert found.references == ("a", "b")


def test_one_is_drawn_for_each_row_by_its_content_and_the_seed() -> None:
    many = rows(600)
    first = drawn(Templates(templates=THREE), many)
    counts = Counter(first)
    assert all(150 < counts[name] < 250 for name in THREE)
    assert drawn(Templates(templates=THREE), many[::-1]) == first[::-1]
    assert drawn(Templates(templates=dict(reversed(THREE.items()))), many) == first
    assert drawn(Templates(templates=THREE, seed=1), many) != first


def test_a_further_template_takes_rows_and_moves_none_between_the_others() -> None:
    many = rows(300)
    before = drawn(Templates(templates=THREE), many)
    after = drawn(Templates(templates=THREE | {"d": "D {q} ||| {r}"}), many)
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {"d"}


def test_all_templates_make_a_conversation_each() -> None:
    format = Templates(templates=THREE, each="all")
    conversations = list(format.conversations_of(row(q="1", r="2")))
    assert [conversation.metadata["template"] for conversation in conversations] == ["a", "b", "c"]
    assert len({conversation.id for conversation in conversations}) == 3
    assert len({conversation.metadata["row"] for conversation in conversations}) == 1
    (one,) = Templates(templates=THREE).conversations_of(row(q="1", r="2"))
    assert one in conversations


def test_answer_choices() -> None:
    format = Templates(templates={"t": "{q} ||| {answer_choices[label]}"}, answer_choices="No ||| Yes, {q}")
    found = format.conversation(row(q="1", label=1))
    assert texts(found) == ["1", "Yes, 1"]
    assert found.metadata["answer_choices"] == ["No", "Yes, 1"]
    assert format.required() == {"templates.t": ["q", "label"], "answer_choices": ["q"]}
    first = Templates(templates={"t": "{q} ||| {answer_choices[0]}"}, answer_choices="No ||| Yes")
    assert first.required() == {"templates.t": ["q"], "answer_choices": []}
    with pytest.raises(InstructLabError, match="list has 2 elements"):
        format.conversation(row(q="1", label=2))


def test_answer_choices_by_template() -> None:
    format = Templates(
        templates={"a": "{q} ||| {answer_choices[0]}", "b": "{q} ||| {r}"},
        answer_choices={"a": "x ||| y", "b": None},
        each="all",
    )
    with_choices, without = format.conversations_of(row(q="1", r="2"))
    assert with_choices.metadata["answer_choices"] == ["x", "y"]
    assert "answer_choices" not in without.metadata


P3 = """{% if label != -1 %}
Premise: {{ premise }}
Hypothesis: {{ hypothesis }}. {{ answer_choices | join(" or ") }}?
|||
{{ answer_choices[label] }}
{% endif %}"""


def test_a_template_of_p3() -> None:
    format = Templates(syntax="jinja", templates={"nli": P3}, answer_choices="Yes ||| Maybe ||| No")
    found = format.conversation(row(premise="It rains ||| now", hypothesis="{{ wet }}", label=2))
    assert texts(found) == ["Premise: It rains ||| now\nHypothesis: {{ wet }}. Yes or Maybe or No?", "No"]
    assert format.required() == {"templates.nli": ["hypothesis", "label", "premise"], "answer_choices": []}
    with pytest.raises(InstructLabError, match=r"No template gives both a prompt and an answer.*line 2"):
        format.conversation(row(premise="a", hypothesis="b", label=-1))


def test_choices_of_the_row_and_several_answers() -> None:
    format = Templates(
        syntax="jinja",
        templates={"t": '{{ q }} ||| {{ answers.text | join("|||") }}'},
        answer_choices="{{ options | join('|||') }}",
    )
    found = format.conversation(row(q="Who?", answers={"text": ["a", "b"]}, options=["x ||| y", "z"]))
    assert found.references == ("a", "b")
    assert found.metadata["answer_choices"] == ["x ||| y", "z"]


def test_a_template_that_does_not_fit_is_passed_over() -> None:
    format = Templates(
        syntax="jinja", templates={"some": "{% if long %}{{ q }} ||| long{% endif %}", "every": "{{ q }} ||| any"}
    )
    many = [row(q=f"{index}", long=False) for index in range(20)]
    assert set(drawn(format, many)) == {"every"}
    assert set(drawn(format, [row(q=f"{index}", long=True) for index in range(20)])) == {"some", "every"}
    both = Templates(syntax="jinja", templates=dict(format.templates), each="all")
    assert len(list(both.conversations_of(many[0]))) == 1


@pytest.mark.parametrize("draws", ["{{ [1,2,3,4,5,6,7,8] | choice }}", "{{ range(100) | random }}"])
def test_a_random_choice_in_a_template_is_the_row_s(draws) -> None:
    format = Templates(syntax="jinja", templates={"t": f"{{{{ q }}}} {draws} ||| x"})
    first = [texts(format.conversation(one))[0].split()[1] for one in rows(30)]
    assert first == [texts(format.conversation(one))[0].split()[1] for one in rows(30)]
    assert len(set(first)) > 3


def test_promptsource_s_functions() -> None:
    text = "{{ v | most_frequent | join }} {% for i, (a, b) in enumerate(zip(v, v)) %}{{ i }}{{ b }}{% endfor %} ||| x"
    assert texts(Templates(syntax="jinja", templates={"t": text}).conversation(row(v=["b", "a", "b"])))[0] == (
        "b 0b1a2b"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ q.__class__.__mro__ }} ||| x", "unsafe"),
        ("{{ many.append(1) }}{{ q }} ||| x", "cannot be rendered"),
        ("{{ missing }} ||| x", "'missing' is undefined"),
        ("{{ q / 2 }} ||| x", "cannot be rendered"),
        ("{{ 1 / 0 }} ||| x", "division by zero"),
        ("{{ many[9] | choice }} ||| x", "cannot be rendered"),
        ("{{ [] | choice }} ||| x", "cannot be rendered"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }} ||| x", "recurs"),
        ("{{ odd }} ||| x", "surrogate pair"),
    ],
)
def test_a_template_reaches_nothing_but_the_row(text, expected) -> None:
    given = row(q="1", many=[0], odd="\ud800")
    with pytest.raises(InstructLabError, match=expected) as caught:
        Templates(syntax="jinja", templates={"t": text}).conversation(given)
    assert "rows.jsonl, line 2, template 't" in str(caught.value)
    assert given.columns["many"] == [0]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"templates": {}}, "names no template"),
        ({"templates": {"t": None}}, "names no template"),
        ({"templates": {"t": "{q}"}}, r"templates.t.*has no answer"),
        ({"templates": {"t": "{q ||| {r}"}}, r"templates.t"),
        ({"templates": {"t": "{q} ||| {}"}}, r"templates.t"),
        ({"templates": {"t": "{% if %} ||| x"}, "syntax": "jinja"}, r"templates.t.*line 1 is not Jinja"),
        ({"templates": {"t": "{{ q | no_filter }} ||| x"}, "syntax": "jinja"}, r"templates.t.*no_filter"),
        ({"templates": THREE, "answer_choices": {"d": "x"}}, r"answer_choices.d.*no such template"),
        ({"templates": THREE, "answer_choices": "{"}, "answer_choices"),
        ({"templates": THREE, "syntax": "mustache"}, "syntax"),
        ({"templates": THREE, "each": "two"}, "each"),
        ({"templates": THREE, "seed": -1}, "seed"),
    ],
)
def test_templates_that_cannot_work_are_refused(settings, expected) -> None:
    with pytest.raises(pydantic.ValidationError, match=expected):
        Templates(**settings)


def test_the_columns_that_templates_need() -> None:
    format = Templates(templates={"a": "{x.y} {z} ||| {z}", "b": "{w} ||| {z}"})
    assert format.required() == {"templates.a": ["x.y", "z"], "templates.b": ["w", "z"]}
    assert [(p.key, p.value) for p in format.column_problems(["x", "w"])] == [
        ("templates.a", "z"),
        ("templates.b", "z"),
    ]
    jinja = Templates(
        syntax="jinja",
        templates={
            "t": "{% for x in many %}{{ x }}{% endfor %}{% if hint is defined %}{{ hint }}{% endif %} ||| {{ r }}"
        },
    )
    assert jinja.required() == {"templates.t": ["many", "r"]}
    assert texts(jinja.conversation(row(many=[1], r="b"))) == ["1", "b"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [({"q": "1"}, "no column 'r'"), ({"q": 1, "r": "x"}, "int found"), ({"q": None, "r": "x"}, "NoneType")],
)
def test_a_row_that_does_not_match_is_an_error(columns, expected) -> None:
    with pytest.raises(InstructLabError, match=expected) as caught:
        Templates(templates=THREE).conversation(row(**columns))
    assert "rows.jsonl, line 2" in str(caught.value)
