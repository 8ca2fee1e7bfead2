"""Quality: every rule drops only what fails it, and counts its own reason."""

import dataclasses
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.hanging import no_hang

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.filters.quality import Quality, shares_of_kinds

CONF = Path(__file__).parents[2] / "conf" / "preprocessing" / "step"
PROSE = "The old house stood at the end of the road, and nobody had lived in it for years. It was for sale again. "
OFF = {"judged_from_words": 0}


def talk(answer, prompt="Tell me something."):
    return Conversation((Message("user", prompt), Message("assistant", answer)), id="x")


def run(step, *rows):
    audit = Audit()
    found = list(step.apply(rows, Context(stage="s", audit=audit)))
    return found, {tally.reason: tally.count for tally in audit.tallies.values()}


LINE = "this is a line of words"
AT_END = "lines with an ellipsis at the end"
RULES = [
    ({"min_words": 3}, "two words", "now three words", "answer under 3 words"),
    ({"max_words": 3}, "four words in all", "now three words", "answer over 3 words"),
    ({"min_sentences": 2}, "One. and a half", 'One! "Two."', "answer under 2 sentences"),
    ({"min_mean_word_length": 3}, "a b c d", "some words here", "answer under 3 characters per word on average"),
    ({"max_mean_word_length": 10}, "x" * 40, "some words", "answer over 10 characters per word on average"),
    ({"max_hashes_per_word": 0.2}, "# a #b #c", "just one sign # in here", "answer over 0.2 number signs per word"),
    ({"max_ellipses_per_word": 0.2}, "so ... and … so", "so it is … and was so", "answer over 0.2 ellipses per word"),
    ({"min_letters": 0.5}, "12 + 30 = 42 yes", "it is 42", "answer under 0.5 letters"),
    ({"max_symbols": 0.3}, "|--|--| a |", "a, b and c.", "answer over 0.3 symbols"),
    ({"min_words_with_letters": 0.5}, "1 2 3 go", "go to 3", "answer under 0.5 words with letters"),
    ({"min_stop_words": 2}, "cats and dogs", "The cats, and dogs", "answer under 2 stop words"),
    ({"max_bullet_lines": 0.5}, "- a\n• b\nc", "- a\nb\nc\n-1", "answer over 0.5 lines with bullets"),
    ({"max_ellipsis_lines": 0.3}, "read more...\nb", "a\nb\nc\nd…", f"answer over 0.3 {AT_END}"),
    ({"min_finished_lines": 0.6}, f"{LINE}\n{LINE}.", f"short\n{LINE}.", "answer under 0.6 finished lines"),
    ({"max_repeated_lines": 0.3}, "again\nagain\nx", "{\n}\n}\n}\nfoo\nbar", "answer over 0.3 repeated lines"),
    ({"drop_unfinished": True}, "and then... ", "and... then.", "answer ends with an ellipsis"),
    ({"phrases": ["lorem ipsum", "{x}"]}, "Lorem Ipsum dolor", "lorem ipsumque", "answer with one of the phrases"),
    ({"max_answer_ratio": 2}, "y" * 37, "y" * 36, "answer over 2 times the prompt"),
    ({"min_answer_ratio": 0.5}, "y" * 8, "y" * 9, "answer under 0.5 times the prompt"),
    ({"drop_echoes": True}, "Tell me  something.\n", "tell me, something!", "answer equals prompt"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "bad", "good", "reason"), RULES, ids=lambda value: next(iter(value)) if isinstance(value, dict) else ""
)
def test_a_rule_drops_only_what_fails_it(fields, bad, good, reason):
    found, counts = run(Quality(**OFF, **fields), talk(bad), talk(good))
    assert [row.answers[0] for row in found] == [good]
    assert counts == {reason: 1}


def test_every_rule_has_its_test():
    tested = {name for fields, *_ in RULES for name in fields} | {"stop_words", "prompt_phrases", "judged_from_words"}
    assert tested | {"weight", "splits", "of"} == {field.name for field in dataclasses.fields(Quality)}


def test_the_rules_look_at_the_part_that_is_named():
    row = talk("a fine long answer", prompt="Eh")
    assert run(Quality(of="answer", min_words=3), row)[0] == [row]
    assert run(Quality(of="prompt", min_words=3), row)[1] == {"prompt under 3 words": 1}
    assert run(Quality(of="conversation", min_words=6), row)[1] == {"conversation under 6 words": 1}


def test_short_texts_are_not_judged_by_shares():
    assert run(Quality(min_letters=0.5), talk("42"))[1] == {}
    assert run(Quality(min_letters=0.5, judged_from_words=1), talk("42"))[1] == {"answer under 0.5 letters": 1}
    assert run(Quality(min_words=2), talk("42"))[1] == {"answer under 2 words": 1}, "a bound on words is for all"


def test_phrases_in_the_prompt():
    rows = [talk("ok", prompt="Sum it up.\n<noinput>"), talk("noinput")]
    assert run(Quality(prompt_phrases=["noinput"]), *rows) == (rows[1:], {"prompt with one of the phrases": 1})


def test_stop_words_of_another_language():
    german = talk("Der Hund und die Katze")
    assert run(Quality(**OFF, min_stop_words=2), german)[0] == []
    assert run(Quality(**OFF, min_stop_words=2, stop_words=["der", "und", "die"]), german)[0] == [german]
    chinese = talk("今天天气的确很好")
    assert run(Quality(**OFF, min_stop_words=2), chinese)[0] == [chinese], "English stop words are for spaced scripts"
    assert run(Quality(**OFF, min_stop_words=1, stop_words=["的"]), chinese)[0] == [chinese]
    assert run(Quality(**OFF, min_stop_words=1, stop_words=["是"]), chinese)[0] == []


def test_words_of_scripts_without_spaces_have_no_length():
    chinese = talk("今天天气很好，我们去公园散步。")
    assert run(Quality(**OFF, min_mean_word_length=3), chinese)[0] == [chinese]


def test_marks_of_a_script_are_no_symbols():
    assert shares_of_kinds("हिन्दी भाषा") == (1, 0)
    assert shares_of_kinds("ภาษาไทย") == (1, 0)
    assert shares_of_kinds("ab1!") == (0.5, 0.25) == shares_of_kinds("éb１！")
    assert shares_of_kinds("  ") == (0, 0)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_is_counted_as_other_text_is(text):
    with_more = shares_of_kinds(text + "\u2003")  # an em space: white space beyond ASCII
    assert shares_of_kinds(text) == with_more


def test_a_step_that_would_drop_nothing_or_everything_is_refused():
    for fields in ({}, {"min_words": 3, "max_words": 2}, {"min_stop_words": 2, "stop_words": ["a", "a"]}):
        with pytest.raises(pydantic.ValidationError):
            Quality(**fields)


@pytest.mark.parametrize("name", ["quality", "quality_gopher", "quality_c4"])
def test_the_options_keep_good_answers_and_drop_bad_ones(name):
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    assert settings.pop("_target_") == "instruct_lab.preprocessing.Quality"
    step = Quality(**settings)
    chinese = "今天天气很好，我们去公园散步，然后在那里吃午饭。" * 3
    code = "```python\ndef add(first, second):\n    return first + second\n```\nIt adds the two numbers."
    good = [talk(text) for text in (PROSE * 3, "42", "Yes.", chinese, code, "1. Red\n2. Green\n3. Blue")]
    assert run(step, *good) == (good, {})
    bad = {"quality": "@#$ %^& " * 30, "quality_gopher": "12 34 56 " * 30, "quality_c4": "red green blue " * 30}
    assert run(step, talk(bad[name]))[0] == []


def test_splits_default_to_training_only():
    assert Quality(min_words=1).splits == ["train"]
    assert Quality(min_words=1, splits=["test"]).splits == ["test"]


def everything():
    settings = {name: value for fields, *_ in RULES for name, value in fields.items()}
    return Quality(**OFF, **settings | {"min_words": 0, "max_words": None, "phrases": ["lorem"]})


@given(st.text(), st.text())
def test_no_text_raises_and_none_is_lost(prompt, answer):
    found, counts = run(everything(), talk(answer, prompt))
    assert len(found) + sum(counts.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a", "...", ".", "\n", " ", "- x\n", "你", "{", "\"!'", '. "', "\u0301"])
def test_long_texts_take_time_by_their_length(unit):
    text = (unit * (1_000_000 // len(unit.encode()))) + "x"
    for fields, *_ in RULES:
        with no_hang():
            run(Quality(**OFF, **fields), talk(text))


@pytest.mark.slow
def test_ten_megabytes_survive():
    run(everything(), talk(PROSE * 100_000), talk("你好。" * 1_100_000))
