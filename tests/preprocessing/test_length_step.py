"""Length: every bound, unit and part; and what counts as a word."""

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.preprocessing.base import Context
from instruct_lab.preprocessing.filters import length as length_module
from instruct_lab.preprocessing.filters.length import Length, num_tokens
from instruct_lab.preprocessing.filters.words import split_words


def talk(prompt, answer, **fields):
    return Conversation((Message("user", prompt), Message("assistant", answer)), id="x", **fields)


def letters_tokenizer():
    """A token for each letter, and one for the end of a turn."""
    vocabulary = {letter: number for number, letter in enumerate("abcdefghij <|end>")} | {"<|end|>": 90, "?": 91}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", unk_token="?")


def kept(step, *rows):
    audit = Audit()
    found = list(step.apply(rows, Context(stage="s", audit=audit, tokenizer=letters_tokenizer)))
    return found, {(tally.action, tally.reason): tally.count for tally in audit.tallies.values()}


def answers(step, *rows):
    return [row.answers[0] for row in kept(step, *rows)[0]]


ROWS = [talk("q", "a"), talk("question", "a"), talk("q", "a long answer")]


def test_length_measures_the_part_that_is_named():
    def texts(**fields):
        return [" ".join(message.content for message in row.messages) for row in kept(Length(**fields), *ROWS)[0]]

    assert texts() == ["q a", "question a", "q a long answer"]
    assert texts(max_characters=10) == ["q a", "question a"]
    assert texts(min_characters=4) == ["question a", "q a long answer"]
    assert texts(of="prompt", min_characters=2) == ["question a"]
    assert texts(of="answer", max_characters=1) == ["q a", "question a"]
    assert texts(of="answer", min_words=2) == ["q a long answer"]
    assert texts(of="answer", max_words=2) == ["q a", "question a"]


def test_rows_outside_are_counted_by_bound():
    _, counts = kept(Length(min_characters=4, max_characters=10), *ROWS)
    assert counts == {
        ("dropped", "conversation under 4 characters"): 1,
        ("dropped", "conversation over 10 characters"): 1,
    }
    assert kept(Length(of="answer", max_words=2), *ROWS)[1] == {("dropped", "answer over 2 words"): 1}


def test_tokens_are_those_of_the_run():
    rows = [talk("a", "abc"), talk("a", "abcdef"), talk("a", "a")]
    assert answers(Length(of="answer", max_tokens=3), *rows) == ["abc", "a"]
    assert answers(Length(of="answer", min_tokens=3), *rows) == ["abc", "abcdef"]
    assert kept(Length(of="answer", max_tokens=3), *rows)[1] == {("dropped", "answer over 3 tokens"): 1}


def test_text_that_spells_a_special_token_is_counted_as_text():
    assert answers(Length(of="answer", min_tokens=7), talk("a", "<|end|>"), talk("a", "abc")) == ["<|end|>"]


def test_earlier_tokenizer_calls_change_nothing_and_the_tokenizer_is_not_changed():
    tokenizer = letters_tokenizer()
    tokenizer("abcdef", truncation=True, max_length=2)
    tokenizer.pad_token = "?"
    tokenizer(["abcdef", "a"], padding="max_length", max_length=20)
    assert num_tokens(tokenizer, ["abcdef", "a", "<|end|>", ""]) == [6, 1, 7, 0]
    assert tokenizer("a<|end|>")["input_ids"] == [0, 90]
    assert num_tokens(tokenizer, []) == []


class Slow:
    """A tokenizer without the `tokenizers` library: a token for each character."""

    def __call__(self, texts, **settings):
        assert settings["split_special_tokens"]
        assert not settings["add_special_tokens"]
        return {"input_ids": [list(text) for text in texts]}


def test_a_slow_tokenizer_counts_too():
    assert num_tokens(Slow(), ["abc", ""]) == [3, 0]


@pytest.mark.parametrize(("rows", "characters"), [(2, 1 << 20), (256, 5)])
def test_batches_of_the_tokenizer_change_nothing(monkeypatch, rows, characters):
    monkeypatch.setattr(length_module, "BATCH_ROWS", rows)
    monkeypatch.setattr(length_module, "BATCH_CHARACTERS", characters)
    texts = ["a" * (number % 7 + 1) for number in range(23)]
    found = answers(Length(of="answer", max_tokens=4), *(talk("a", text) for text in texts))
    assert found == [text for text in texts if len(text) <= 4]


def test_the_tokenizer_is_needed_only_if_tokens_are_counted():
    assert Length(max_characters=3, max_words=2).needs == frozenset()
    assert Length(min_tokens=1).needs == Length(max_tokens=9).needs == {"tokenizer"}
    list(Length(max_words=2).apply(ROWS, Context(stage="s", audit=Audit())))  # whose tokenizer raises


def test_rejected_answers_have_to_fit_too():
    pair = talk("q", "a", rejected=(Message("assistant", "a very long answer"),))
    assert kept(Length(max_characters=10), pair)[0] == []
    assert kept(Length(of="answer", max_words=3), pair)[0] == []
    assert kept(Length(of="answer", max_tokens=3), pair)[0] == []
    assert kept(Length(of="prompt", max_characters=1), pair)[0] == [pair]


@pytest.mark.parametrize("unit", ["characters", "words", "tokens"])
def test_bounds_that_let_nothing_through_are_refused(unit):
    with pytest.raises(pydantic.ValidationError, match=f"min_{unit}"):
        Length(**{f"min_{unit}": 5, f"max_{unit}": 4})


def test_splits_default_to_training_only():
    assert Length().splits == ["train"]
    assert Length(splits=["test"]).splits == ["test"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two words", ["two", "words"]),
        ("déjà vu, ça va ?", ["déjà", "vu,", "ça", "va", "?"]),
        ("你好，世界 hello world。", ["你", "好", "世", "界", "hello", "world"]),
        ("カタカナ", ["カ", "タ", "カ", "ナ"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("안녕 세상", ["안녕", "세상"]),
    ],
)
def test_scripts_without_spaces_are_counted_by_character(text, expected):
    assert split_words(text) == expected


def test_a_long_chinese_text_is_many_words():
    assert answers(Length(of="answer", min_words=10), talk("q", "今天天气怎么样我们去公园"), talk("q", "short")) == [
        "今天天气怎么样我们去公园"
    ]


@given(st.text())
def test_words_lose_nothing_but_white_space_and_punctuation(text):
    assert sum(map(len, split_words(text))) <= len(text)
    assert all(word and not any(letter.isspace() for letter in word) for word in split_words(text))
