"""Plain answers without a model."""

import random

import pytest

from instruct_lab.data import Conversation, Copy, Message, NearestExample
from instruct_lab.errors import InstructLabError


def pair(question: str, answer: str = "", **metadata) -> Conversation:
    messages = (Message("system", "S"), Message("user", question), Message("assistant", answer))
    return Conversation(messages, id=question, metadata=metadata)


def test_copy_answers_with_the_question_or_a_column() -> None:
    prompts = [pair("Translate: Save", source="Save"), pair("Translate: Open", source="Open")]
    assert Copy().answers([], prompts) == ["Translate: Save", "Translate: Open"]
    assert Copy(column="source").answers([], prompts) == ["Save", "Open"]


def test_nearest_takes_the_answer_of_the_likest_question() -> None:
    train = [pair("Delete the file", "A"), pair("Delete the files now, please", "B"), pair("Open a window", "C")]
    nearest = NearestExample()
    assert nearest.answers(train, [pair("delete file!"), pair("Windows open")]) == ["A", "C"]
    assert nearest.answers(train, [pair("zzz")]) == [""]


def test_nearest_compares_a_column_where_one_is_named() -> None:
    train = [pair("Translate: Save", "A", source="Open"), pair("Translate: Open", "B", source="Save")]
    assert NearestExample(column="source").answers(train, [pair("Translate: Save", source="Save")]) == ["B"]


def test_of_equally_near_examples_the_first_is_taken() -> None:
    train = [pair("abc def", "first"), pair("ABC, def", "second")]
    assert NearestExample().answers(train, [pair("abc def")]) == ["first"]


def test_the_length_of_n_grams_matters() -> None:
    train = [pair("abcx", "order"), pair("cba", "letters")]
    assert NearestExample(num_characters=1).answers(train, [pair("abc")]) == ["letters"]
    assert NearestExample(num_characters=3).answers(train, [pair("abc")]) == ["order"]
    assert NearestExample(num_characters=10).answers(train, [pair("a")]) == [""]
    assert NearestExample(num_characters=10).answers([pair("a", "x")], [pair("a")]) == ["x"]


def test_nearest_equals_a_comparison_with_every_example() -> None:
    draw = random.Random(0)
    words = ["save", "saved", "file", "files", "open", "delete", "window", "user", "users", "name"]
    train = [pair(" ".join(draw.choices(words, k=4)), str(number)) for number in range(300)]
    prompts = [pair(" ".join(draw.choices(words, k=4))) for _ in range(50)]
    nearest = NearestExample()

    def similarity(left: str, right: str) -> float:
        a, b = nearest._grams(left), nearest._grams(right)
        return 2 * len(a & b) / (len(a) + len(b))

    for prompt, answer in zip(prompts, nearest.answers(train, prompts), strict=True):
        scores = [similarity(prompt.messages[1].content, example.messages[1].content) for example in train]
        assert int(answer) == scores.index(max(scores))


def test_a_missing_column_and_an_empty_training_set_are_errors() -> None:
    with pytest.raises(InstructLabError, match="Did you mean 'source'"):
        Copy(column="sorce").answers([], [pair("a", source="b")])
    with pytest.raises(InstructLabError, match="No training example"):
        NearestExample().answers([], [pair("a")])
