"""The lengths of training answers and held-out prompts, compared with a count in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chat_tokenizers import byte_level, conversation

from instruct_lab.batching import IGNORED, Example, Layout, Padded
from instruct_lab.batching import table as tables
from instruct_lab.batching.answer_lengths import answer_lengths, longest_prompt, target_lengths, usual_length
from instruct_lab.batching.table import ExampleTable, to_batches, write_batches
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.template import ChatTemplate

TOKENIZER = byte_level("chatml")


def table(path, examples):
    write_batches(path / "examples.arrow", to_batches(examples))
    return ExampleTable(path / "examples.arrow")


def runs(marks):
    """Start and length of each sequence of true values."""
    found, start = [], None
    for index, mark in enumerate([*marks, False]):
        if mark and start is None:
            start = index
        elif not mark and start is not None:
            found.append((start, index - start))
            start = None
    return found


@given(rows=st.lists(st.lists(st.booleans(), max_size=12), max_size=30), batch=st.integers(1, 9))
def test_every_sequence_of_targets_is_counted_and_none_spans_two_examples(tmp_path_factory, rows, batch):
    examples = [Example(list(range(len(row))), [1 if mark else IGNORED for mark in row], "x") for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH_EXAMPLES", batch)
        found = table(tmp_path_factory.mktemp("table"), examples)
    assert list(target_lengths(found)) == [length for row in rows for _, length in runs(row)]
    assert longest_prompt(found, Layout()) == max((runs(row)[-1][0] for row in rows if any(row)), default=0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300))
def test_the_usual_length_is_the_shortest_that_99_percent_do_not_exceed(lengths):
    usual = usual_length(np.asarray(lengths))
    assert usual in lengths
    assert sum(length <= usual for length in lengths) >= math.floor(0.99 * (len(lengths) - 1)) + 1
    shorter = [length for length in lengths if length < usual]
    assert len(shorter) < 0.99 * len(lengths) + 1


def test_without_answers_there_is_no_usual_length():
    assert usual_length(np.asarray([])) is None


CHATS = [
    conversation("first", "one"),
    Conversation(
        (
            Message("user", "a question"),
            Message("assistant", "a long first answer"),
            Message("user", "more"),
            Message("assistant", "ok"),
        ),
        id="two turns",
    ),
    conversation("a prompt that is longer than all others, by far", "short"),
]


@pytest.mark.parametrize("layout", [Layout(), Layout("text"), Layout("answers", "encoder-decoder")], ids=str)
def test_each_layout_gives_the_lengths_of_the_answers_with_their_end_token(tmp_path, layout):
    examples = list(Padded(max_tokens=None).encode(CHATS, ChatTemplate(), TOKENIZER, Audit(), "train", layout))
    found = answer_lengths(table(tmp_path, examples), CHATS, TOKENIZER, layout)
    answers = ["one", "a long first answer", "ok", "short"] if layout == Layout() else ["one", "ok", "short"]
    end = 0 if layout.family == "encoder-decoder" else 1  # this tokenizer adds no end token to a decoder's targets
    expected = [len(TOKENIZER(text, add_special_tokens=False)["input_ids"]) + end for text in answers]
    assert found.tolist() == expected


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_the_longest_prompt_is_the_longest_that_is_answered(tmp_path, family):
    layout, batching = Layout("answers", family), Padded(max_tokens=None)
    examples = list(batching.encode(CHATS, ChatTemplate(), TOKENIZER, Audit(), "test", layout))
    prompts = batching.encode_prompts(CHATS, ChatTemplate(), TOKENIZER, layout)
    assert longest_prompt(table(tmp_path, examples), layout) == max(map(len, prompts))


def test_plain_texts_have_no_answers(tmp_path):
    texts = [Conversation((Message("assistant", "a text"),), id="t")]
    examples = list(Padded().encode(texts, ChatTemplate(), TOKENIZER, Audit(), "train", Layout("text")))
    assert answer_lengths(table(tmp_path, examples), texts, TOKENIZER, Layout("text")).tolist() == []
    assert longest_prompt(table(tmp_path, examples), Layout("text")) is None
