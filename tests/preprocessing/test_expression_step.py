"""Expression: names, what is refused when it is built, rows on which it fails, and that it cannot hang."""

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hanging import no_hang

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.filters.expression import FUNCTIONS, METHODS, NAMES, Expression

ROW = Conversation(
    (
        Message("system", "Be kind."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "What is two and two?"),
        Message("assistant", "It is four.\n\nReally."),
    ),
    id="abc",
    references=("It is four.\n\nReally.", "4"),
    metadata={"lang": "en", "score": 4.5, "tags": ["maths", "easy"], "my column": None},
    rejected=(Message("assistant", "five"),),
    source="mine",
    desirable=True,
)
PLAIN = Conversation((Message("user", "q"), Message("assistant", "a")))


def run(step, *rows):
    audit = Audit()
    found = list(step.apply(rows, Context(stage="s", audit=audit)))
    return found, {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}


def true_of(keep, row=ROW, **fields):
    found, counts = run(Expression(keep=keep, **fields), row)
    assert not any("failed" in reason for _, reason in counts), counts
    return found == [row]


TRUE = {
    "prompt": "prompt.endswith('two?') and 'Hello' in prompt",
    "question": "question == 'What is two and two?'",
    "answer": "answer.startswith('It is')",
    "rejected": "rejected == 'five'",
    "desirable": "desirable and desirable != None",
    "system": "system == 'Be kind.'",
    "source": "source in ('mine', 'yours')",
    "id": "id == 'abc'",
    "roles": "roles[0] == 'system' and 'tool' not in roles",
    "num_messages": "num_messages == 5",
    "num_turns": "num_turns == 2",
    "num_references": "num_references == 2",
    "metadata": "metadata['score'] >= 4 and metadata.get('absent', 1) == 1 and 'easy' in metadata['tags']",
    "len": "len(answer) == 20 and len(roles) == 5",
    "words": "words(answer) == 4",
    "lines": "lines(answer) == 2",
    "lower": "lower(answer) == answer.lower()",
    "upper": "upper('a') == 'A'",
    "int": "int('4') == 4",
    "float": "float('4.5') == metadata['score']",
    "bool": "bool(answer)",
    "abs": "abs(-2) == 2",
    "round": "round(2.567, 1) == 2.6 and round(2.5) == 2",
    "min": "min(3, 2) == 2",
    "max": "max(len(answer), len(prompt)) > 20",
}


@pytest.mark.parametrize("name", TRUE)
def test_names_of_an_expression(name):
    assert true_of(TRUE[name])
    assert not true_of(f"not ({TRUE[name]})")


def test_every_name_and_function_has_its_test():
    assert set(TRUE) == {*NAMES, *FUNCTIONS}


@pytest.mark.parametrize(
    "keep",
    [
        "1 + 2 * 3 - 4 / 2 == 5 and 7 // 2 == 3 and 7 % 4 == 3 and 2 ** 5 == 32",
        "1 < 2 <= 2 != 3 > 2 >= 2 and -1 == - 1 and +1 == 1",
        "(1 if answer else 0) == 1 or 1 / 0",
        "answer[0:2] == 'It' and answer[-1] == '.'",
        "metadata['my column'] is None and metadata['lang'] is not None",
        "[1, 2] == [1, 2] and 1 in {1, 2}",
        "'a' + 'b' == 'ab'",
        "num_turns >= 2\nand num_messages > 2",
    ],
)
def test_operators_are_those_of_python(keep):
    assert true_of(keep)


def test_rows_for_which_it_is_false_are_dropped_and_counted():
    found, counts = run(Expression(keep="num_turns > 1"), ROW, PLAIN)
    assert (found, counts) == ([ROW], {("dropped", "expression is false"): 1})


def test_listed_columns_are_names():
    assert true_of("lang == 'en' and score > 4", columns=["lang", "score"])
    step = Expression(keep="lang == 'en'", columns=["lang"])
    assert run(step, PLAIN) == ([], {("dropped", "expression failed: no 'lang'"): 1})


@pytest.mark.parametrize(("keep", "failure"), [("metadata['absent'] > 1", "no 'absent'"), ("answer < 3", "TypeError")])
def test_a_row_it_fails_on_is_dropped_or_kept_and_counted(keep, failure):
    reason = f"expression failed: {failure}"
    assert run(Expression(keep=keep), ROW) == ([], {("dropped", reason): 1})
    assert run(Expression(keep=keep, on_error="keep"), ROW) == ([ROW], {("reported", reason): 1})


def refusal(keep, **fields):
    with pytest.raises(pydantic.ValidationError) as caught:
        Expression(keep=keep, **fields)
    return caught.value.errors()[0]["ctx"]["error"]


@pytest.mark.parametrize(
    ("keep", "nearest"),
    [
        ("words(anwser) < 3", "answer"),
        ("wrds(answer) < 3", "words"),
        ("answer.lowr() == ''", "lower"),
        ("num_turn > 2", "num_turns"),
        ("answer.lower == ''", "lower()"),
        ("words > 3", "words(...)"),
        ("langs == 'en'", "lang"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(keep, nearest):
    refused = refusal(keep, columns=["lang"])
    assert (refused.field, refused.suggestion) == ("keep", nearest)


@pytest.mark.parametrize(
    "keep",
    [
        *("words(answer < 3", "", " ", "answer =", "a := 3", "import os", "\x00", "(" * 300 + ")" * 300),
        *("lambda: 1", "[x for x in roles]", "f'{answer}'", "answer.__class__", "().__class__", "open('x')"),
        *("answer.format(1)", "answer.replace('a', 'b')", "','.join(roles)", "answer.zfill(9)", "metadata.lang"),
        *("len(*roles)", "len(obj=answer)", "1j", "b'a' == 1", "...", "1 << 9", "~1", "{'a': 1}", "await answer"),
        *("-" * 200 + "1", "__import__('os')", "eval('1')", "print", "x" * 3000, "answer @ answer"),
    ],
)
def test_syntax_outside_the_language_is_refused_when_built(keep):
    with pytest.raises(pydantic.ValidationError, match="keep"):
        Expression(keep=keep)


def test_a_column_cannot_take_the_name_of_something_else():
    for column in ("answer", "len", "two words"):
        assert refusal("1", columns=[column]).field == "columns"


@pytest.mark.parametrize(
    "keep",
    [
        *("9 ** 9 ** 9 ** 9 > 1", "9.0 ** 64 ** 64 > 1", "2 ** 65 > 1", "'a' * 10 ** 9 == 'a'", "[1] * 10 ** 9 == []"),
        *("10 ** 9 * 'a' == ''", "'%999999999d' % 3 == ''", "round(5, -10 ** 9) > 1", "1 / 0 > 1", "int('x') > 1"),
        *("abs(answer) > 1", "roles[99] == ''", "max() > 1", "max(1, answer) > 1", "metadata['a']['b'] == 1"),
    ],
)
def test_expressions_that_could_hang_or_fail_stop_at_once(keep):
    with no_hang():
        found, counts = run(Expression(keep=keep), ROW)
        assert found == []
        assert next(iter(counts))[1].startswith("expression failed: ")


def test_no_method_builds_what_is_larger_than_its_text():
    builders = {"center", "ljust", "rjust", "zfill", "expandtabs", "replace", "join", "format", "format_map", "encode"}
    assert not builders & set().union(*METHODS.values())


def test_ten_megabytes_survive():
    row = Conversation((Message("user", "x" * 10_000_000), Message("assistant", "y " * 5_000_000)))
    assert true_of("words(answer) == 5000000 and len(prompt + answer + prompt) == 30000000", row)


@given(st.text(), st.text())
def test_no_text_raises_and_none_is_lost(prompt, answer):
    row = Conversation((Message("user", prompt), Message("assistant", answer)))
    found, counts = run(Expression(keep="int(answer) < words(prompt) or answer[3] == '1'"), row)
    assert len(found) + sum(counts.values()) == 1


def test_splits_default_to_training_only():
    assert Expression(keep="1").splits == ["train"]
    assert Expression(keep="1", splits=["test"]).splits == ["test"]
