"""Conversations that a template refuses are counted as broken rows, up to a share of them."""

import pytest
from support.chat_tokenizers import byte_level, conversation

from instruct_lab.batching import Padded
from instruct_lab.batching.encoded import EncodeRows
from instruct_lab.batching.example import SUPERVISED_DECODER
from instruct_lab.batching.table import ExampleTable
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import write_conversations
from instruct_lab.errors import InstructLabError
from instruct_lab.template import ChatTemplate, RefusedConversation, TextTemplate

BROKEN = {7, 8, 640, 1199}


def rows_with(path, broken, count=1200):
    """Conversations, of which some have a system message."""
    texts = (
        conversation(f"a {n}", "two", system="You are terse." if n in broken else None, name=f"{n:04}")
        for n in range(count)
    )
    write_conversations(path, texts)
    return ConversationTable(path)


def encode(rows, share, path, template=None):
    audit = Audit()
    work = EncodeRows(
        Padded(), template or ChatTemplate(), byte_level("gemma"), SUPERVISED_DECODER, rows, "train", share
    )
    work.write(path, audit)
    return ExampleTable(path), audit


def test_refused_conversations_are_dropped_and_counted(tmp_path):
    examples, audit = encode(rows_with(tmp_path / "rows", BROKEN), 0.01, tmp_path / "examples")
    assert [int(name) for name in examples.ids()] == [n for n in range(1200) if n not in BROKEN]
    (tally,) = audit.tallies.values()
    assert tally.count == len(BROKEN)
    reason = "train: broken row: The chat template refuses messages of role 'system': System role not supported"
    assert tally.reason == reason
    assert "conversation 0007: 'You are terse.'" in tally.samples[0]["before"]
    assert audit.stages["batching"] == {"in": 1200, "out": 1196}


def test_too_many_are_an_error_that_names_the_first_their_number_and_what_mends_them(tmp_path):
    rows = rows_with(tmp_path / "rows", BROKEN)
    with pytest.raises(InstructLabError) as caught:
        encode(rows, 0.003, tmp_path / "examples")
    message = str(caught.value)
    for part in ("4 of 1,200 rows", "0007", "data.max_broken_share=0.004", "preprocessing.steps.normalize.roles"):
        assert part in message


@pytest.mark.slow
def test_a_template_that_refuses_all_stops_at_once_unless_all_may_be_broken(tmp_path):
    with pytest.raises(InstructLabError, match="500 of 500 rows"):
        encode(rows_with(tmp_path / "rows", range(1200)), 0.4, tmp_path / "examples")
    examples, audit = encode(rows_with(tmp_path / "most", range(1100)), 1.0, tmp_path / "examples")
    assert len(examples) == 100
    assert audit.count("dropped") == 1100


@pytest.mark.slow
def test_a_first_part_that_is_refused_ends_nothing_if_the_share_allows_it(tmp_path):
    examples, _ = encode(rows_with(tmp_path / "rows", range(500)), 0.5, tmp_path / "examples")
    assert len(examples) == 700


def test_roles_without_a_pattern_and_empty_conversations_are_refused_conversations(tmp_path):
    found = [conversation("a", "b"), Conversation(()), Conversation((Message("tool", "x"), Message("assistant", "c")))]
    refused, audit = [], Audit()
    tokenizer = byte_level("chatml")
    examples = list(Padded().encode(found, TextTemplate(), tokenizer, audit, "train", SUPERVISED_DECODER, refused))
    assert len(examples) == 1
    assert ["no messages" in refused[0].what, "role 'tool'" in refused[1].what] == [True, True]
    with pytest.raises(RefusedConversation, match="no messages"):
        list(Padded().encode(found, TextTemplate(), tokenizer, Audit(), "train"))


def test_a_template_without_an_end_of_turn_is_an_error_of_the_template(tmp_path):
    jinja = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with pytest.raises(InstructLabError, match="does not end an assistant's turn") as caught:
        encode(rows_with(tmp_path / "rows", ()), 1.0, tmp_path / "examples", ChatTemplate(jinja=jinja))
    assert not isinstance(caught.value, RefusedConversation)
