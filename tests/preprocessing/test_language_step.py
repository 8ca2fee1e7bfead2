"""Language: codes for each part, probability, short texts, ignored code."""

import importlib.util

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.filters.language import CODES, Language, load_detector

ENGLISH = "The weather is very nice today, so we will walk to the park and eat our lunch there."
FRENCH = "Il fait très beau aujourd'hui, alors nous allons au parc pour y manger notre déjeuner."
GERMAN = "Das Wetter ist heute sehr schön, also gehen wir in den Park und essen dort zu Mittag."
CHINESE = "今天天气非常好，所以我们去公园散步，然后在那里吃午饭，晚上再回家看书。"


def talk(prompt, answer):
    return Conversation((Message("user", prompt), Message("assistant", answer)), id="x")


def run(step, *rows):
    audit = Audit()
    found = list(step.apply(rows, Context(stage="s", audit=audit)))
    return found, {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}, audit


def test_other_languages_are_dropped_and_counted_by_language():
    rows = [talk(text, text) for text in (ENGLISH, FRENCH, GERMAN, CHINESE)]
    found, counts, audit = run(Language(conversation=["en", "zh"]), *rows)
    assert found == [rows[0], rows[3]]
    assert counts == {("dropped", "conversation in fr"): 1, ("dropped", "conversation in de"): 1}
    assert audit.facts["s"]["languages"] == {"conversation": {"en": 1, "fr": 1, "de": 1, "zh": 1}}


def test_prompt_and_answer_may_have_languages_of_their_own():
    rows = [talk(ENGLISH, FRENCH), talk(FRENCH, ENGLISH), talk(ENGLISH, ENGLISH)]
    assert run(Language(prompt=["en"], answer=["fr"]), *rows)[0] == rows[:1]
    assert run(Language(prompt=["en"]), *rows)[0] == [rows[0], rows[2]]
    assert run(Language(answer=["en"]), *rows)[0] == rows[1:]


def test_an_answer_in_the_language_of_its_prompt():
    rows = [talk(GERMAN, GERMAN), talk(ENGLISH, FRENCH), talk(ENGLISH, "Oui.")]
    found, counts, _ = run(Language(answer_like_prompt=True), *rows)
    assert found == [rows[0], rows[2]]
    assert counts == {
        ("dropped", "answer in another language than the prompt"): 1,
        ("reported", "answer of few letters: language unknown"): 1,
    }


def test_short_texts_stay_and_are_reported():
    row = talk(ENGLISH, "Oui, oui")
    assert run(Language(answer=["en"]), row)[:2] == (
        [row],
        {("reported", "answer of few letters: language unknown"): 1},
    )
    assert run(Language(answer=["en"], min_letters=5), row)[0] == []
    digits = talk("1234 5678 " * 20, "ok")
    assert run(Language(prompt=["fr"]), digits)[0] == [digits], "digits are no letters"
    assert run(Language(prompt=["fr"], min_letters=0), talk("", "ok"))[0] == []


def test_the_probability_is_that_of_the_languages_together(monkeypatch):
    close = {"hr": 0.45, "sr": 0.35, "bs": 0.15}
    monkeypatch.setattr("instruct_lab.preprocessing.filters.language.load_detector", lambda: lambda text: close)
    row = talk(ENGLISH, ENGLISH)
    assert run(Language(conversation=["hr", "sr", "bs"], min_probability=0.9), row)[0] == [row]
    assert run(Language(conversation=["sr"], min_probability=0.3), row)[0] == [row]
    assert run(Language(conversation=["hr"]), row)[1] == {
        ("dropped", "conversation in hr under probability 0.5"): 1,
    }
    assert run(Language(conversation=["sr"]), row)[1] == {("dropped", "conversation in hr"): 1}


def test_only_the_start_of_a_text_is_examined():
    row = talk(ENGLISH + " " + FRENCH * 10, "ok")
    assert run(Language(prompt=["en"], max_characters=80), row)[0] == [row]
    assert run(Language(prompt=["en"], max_characters=900), row)[0] == []


def test_code_and_addresses_are_ignored():
    code = "```python\nfor index in range(number_of_words):\n    print(words[index], end=separator)\n```\n"
    address = "https://www.example.com/this/is/an/english/page/about/the/weather/of/today\n"
    row = talk(code + address + FRENCH, "ok")
    assert run(Language(prompt=["fr"], max_characters=90), row)[0] == [row]
    code_only = talk(code + address, "ok")
    assert run(Language(prompt=["fr"]), code_only)[1] == {("reported", "prompt of few letters: language unknown"): 1}


def refusal(**fields):
    with pytest.raises(pydantic.ValidationError) as caught:
        Language(**fields)
    return caught.value.errors()[0]["ctx"]["error"]


def test_unknown_codes_are_refused_with_the_nearest():
    assert refusal(answer=["zh-cn"]).suggestion == "zh"
    assert refusal(prompt=["French"]).suggestion == "fr"
    assert refusal(conversation=["EN"]).suggestion == "en"
    assert refusal(answer=["xx"]).field == "answer"
    assert "set the languages" in refusal().reason


def test_the_codes_are_those_of_the_model():
    detect = load_detector()
    assert set(detect(ENGLISH)) <= CODES
    assert len(CODES) == 176


def test_a_missing_package_is_a_problem(monkeypatch):
    step = Language(conversation=["en"])
    assert list(step.problems()) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "which is not installed" in str(next(step.problems()))


def test_splits_default_to_training_only():
    assert Language(conversation=["en"]).splits == ["train"]
    assert Language(conversation=["en"], splits=["test"]).splits == ["test"]


@pytest.mark.slow
@settings(max_examples=50)
@given(st.text(alphabet=st.characters()), st.text())
def test_no_text_raises_and_none_is_lost(prompt, answer):
    row = talk(prompt, answer)
    found, counts, _ = run(Language(conversation=["en"], min_letters=0, answer_like_prompt=True), row)
    assert len(found) + sum(count for (action, _), count in counts.items() if action == "dropped") == 1


def test_half_a_surrogate_pair_and_ten_megabytes_survive():
    rows = [talk("\ud800" + ENGLISH, "ok"), talk(ENGLISH * 120_000, "ok"), talk("x" * 10_000_000, "ok")]
    assert run(Language(prompt=["en"], min_probability=0.01), *rows)[0][:2] == rows[:2]
