"""Repetition: shares against a slow oracle, every bound, and long texts in linear time."""

import dataclasses
from collections import Counter
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.hanging import no_hang

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.filters.repetition import Repetition, line_shares, ngram_shares

CONF = Path(__file__).parents[2] / "conf" / "preprocessing" / "step" / "repetition.yaml"
PROSE = "the old house stood at the end of a road where nobody had lived for years and it was up for sale once more"


def talk(answer, prompt="q"):
    return Conversation((Message("user", prompt), Message("assistant", answer)), id="x")


def run(step, *rows):
    audit = Audit()
    found = list(step.apply(rows, Context(stage="s", audit=audit)))
    return found, {tally.reason: tally.count for tally in audit.tallies.values()}


def slow_shares(found):
    """The same by definition: every n-gram compared with every one before it."""
    total, shares = sum(map(len, found)), {}
    for n in range(2, 11):
        grams = [tuple(found[start : start + n]) for start in range(len(found) - n + 1)]
        counts = Counter(grams)
        if not counts or max(counts.values()) < 2:
            continue

        def covered(starts, n=n):
            positions = {position for start in starts for position in range(start, start + n)}
            return sum(len(found[position]) for position in positions) / total

        if n <= 4:
            top = [gram for gram, count in counts.items() if count == max(counts.values())]
            value = max(covered([start for start, other in enumerate(grams) if other == gram]) for gram in top)
            shares[f"top_{n}gram"] = value
        else:
            value = covered([start for start, gram in enumerate(grams) if gram in grams[:start]])
            shares[f"duplicate_{n}gram"] = value
    return shares


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=40))
def test_shares_are_those_of_the_definition(found):
    assert ngram_shares(found) == pytest.approx(slow_shares(found))


@given(st.text(alphabet="ab \n", max_size=60))
def test_shares_are_shares(text):
    for value in (*line_shares(text).values(), *ngram_shares(text.split()).values()):
        assert 0 <= value <= 1


def test_lines_and_paragraphs_are_duplicates_from_the_second_on():
    text = "one\n  two two\none\n\nlast\n\nlast\n\n}\n}\n}\n---\n---"
    assert line_shares(text) == pytest.approx(
        {
            "duplicate_lines": 2 / 5,
            "duplicate_line_characters": 7 / 21,
            "duplicate_paragraphs": 1 / 3,
            "duplicate_paragraph_characters": 4 / 23,
        }
    )


REPEATED = {
    "max_duplicate_lines": "alpha\nbeta\nalpha",
    "max_duplicate_line_characters": "a\nlong line\nlong line",
    "max_duplicate_paragraphs": "alpha\n\nbeta\n\nalpha",
    "max_duplicate_paragraph_characters": "a\n\nlong\ntext\n\nlong\ntext",
    **{f"max_top_{n}gram": " ".join([PROSE, *["u v"] * 60]) for n in (2, 3, 4)},
    **{f"max_duplicate_{n}gram": f"{PROSE} {PROSE}" for n in range(5, 11)},
    "max_character_run": "no" + "o" * 30,
}
BOUNDS = {name: 10 if name == "max_character_run" else 0.25 for name in REPEATED}


@pytest.mark.parametrize("name", REPEATED)
def test_a_bound_drops_only_what_exceeds_it(name):
    step = Repetition(judged_from_words=0, **{name: BOUNDS[name]})
    found, counts = run(step, talk(REPEATED[name]), talk(PROSE))
    assert found == [talk(PROSE)]
    (reason,) = counts
    assert "over" in reason
    wide = Repetition(judged_from_words=0, **{name: 10_000 if name == "max_character_run" else 1.0})
    assert run(wide, talk(REPEATED[name]))[1] == {}


def test_every_field_has_its_test():
    fields = {field.name for field in dataclasses.fields(Repetition)}
    assert fields == {*REPEATED, "judged_from_words", "of", "splits", "weight"}


def test_short_texts_are_judged_by_the_run_only():
    step = {"max_top_2gram": 0.2, "max_character_run": 5}
    rows = [talk("no no no no"), talk("nooooooo")]
    assert run(Repetition(**step), *rows) == (rows[:1], {"answer with one character over 5 times in a row": 1})
    assert run(Repetition(**step, judged_from_words=4), *rows)[0] == []


def test_rulers_are_no_runs():
    ruler = talk("Title\n" + "=" * 60 + "\n" + "_" * 60)
    assert run(Repetition(max_character_run=5), ruler)[0] == [ruler]


def test_the_part_that_is_named_is_judged():
    row = talk(PROSE, prompt="go " * 40)
    assert run(Repetition(max_top_2gram=0.3), row)[0] == [row]
    assert run(Repetition(max_top_2gram=0.3, of="prompt"), row)[1] == {"prompt over 0.3 in top 2gram": 1}
    assert run(Repetition(max_top_2gram=0.3, of="conversation"), row)[0] == []


def test_chinese_is_compared_by_character():
    assert run(Repetition(max_duplicate_5gram=0.3), talk("今天天气很好，我们去公园。" * 5))[0] == []


def test_a_step_without_a_bound_is_refused():
    for fields in ({}, {"max_top_2gram": 1.5}):
        with pytest.raises(pydantic.ValidationError):
            Repetition(**fields)


def test_the_option_keeps_prose_and_lists_and_drops_circles():
    settings = yaml.safe_load(CONF.read_text(encoding="utf-8"))
    assert settings.pop("_target_") == "instruct_lab.preprocessing.Repetition"
    step = Repetition(**settings)
    colours = "\n".join(f"{number}. {word} is a colour" for number, word in enumerate(["red", "green", "blue"]))
    code = "int add(int a, int b)\n{\n    return a + b;\n}\nint twice(int a)\n{\n    return 2 * a;\n}\n" + PROSE
    good = [talk(PROSE), talk(f"{PROSE}\n{colours}"), talk(code)]
    assert run(step, *good) == (good, {})
    circle = "I am sorry, I do not know what to say about that. "
    assert run(step, talk(PROSE + circle * 4), talk(f"{PROSE}\n" * 3), talk("Hmm" + "m" * 200))[0] == []


def test_splits_default_to_training_only():
    assert Repetition(max_top_2gram=1.0).splits == ["train"]
    assert Repetition(max_top_2gram=1.0, splits=["test"]).splits == ["test"]


LONG = {
    "one word": "word " * 200_000,
    "one letter": "a" * 1_000_000,
    "a period": " ".join(map(str, range(1000))) * 250,
    "two words": "a b b a a b a b " * 60_000,
    "lines": "a line\n" * 140_000,
    "empty lines": "\n" * 1_000_000,
    "runs below the bound": ("a" * 99 + "b" * 99) * 5_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_texts_take_time_by_their_length(name):
    step = Repetition(**{bound: 150 if bound == "max_character_run" else 1.0 for bound in REPEATED})
    with no_hang():
        run(step, talk(LONG[name]))


@pytest.mark.slow
def test_ten_megabytes_survive():
    step = Repetition(max_top_2gram=0.3, max_duplicate_10gram=0.3)
    assert run(step, talk(PROSE * 95_000))[0] == []
