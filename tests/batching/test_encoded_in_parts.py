"""Encoding conversations on disk gives the same examples and errors in one process and in several."""

import json
import pydoc_data.topics
import re

import pytest
from support.workers import start_workers_at_once
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from instruct_lab.batching import Padded
from instruct_lab.batching.encoded import EncodeRows
from instruct_lab.batching.example import SUPERVISED_DECODER
from instruct_lab.batching.table import ExampleTable, to_batches, write_batches
from instruct_lab.cache import worker_processes
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.data.table import ConversationTable
from instruct_lab.data.writing import write_conversations
from instruct_lab.errors import InstructLabError
from instruct_lab.template import TextTemplate

SENTENCES = [text.strip() for text in re.split(r"(?<=[.:])\s+", " ".join(pydoc_data.topics.topics.values()))]


@pytest.fixture(scope="module")
def tokenizer():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, initial_alphabet=alphabet)
    backend.train_from_iterator(SENTENCES[:500], trainer)
    backend.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


@pytest.fixture
def rows(tmp_path):
    def conversation(number):
        question, answer = SENTENCES[number % 700], SENTENCES[(number * 7) % 900] * (1 + number % 3)
        text = f"{question} <|end|>" if number % 50 == 0 else question
        return Conversation((Message("user", text), Message("assistant", answer)), str(number), source="docs")

    write_conversations(tmp_path / "rows.arrow", map(conversation, range(3300)))
    return ConversationTable(tmp_path / "rows.arrow")


def encode(rows, tokenizer, overlong="truncate_prompt"):
    return EncodeRows(
        Padded(max_tokens=90, overlong=overlong), TextTemplate(), tokenizer, SUPERVISED_DECODER, rows, "train"
    )


@pytest.fixture
def shared(monkeypatch):
    """Another process is started at once and waited for; gives the numbers of the parts that it did."""
    return start_workers_at_once(monkeypatch)


@pytest.mark.slow
def test_examples_and_audit_are_the_same_by_one_process_by_several_and_all_at_once(
    tmp_path, rows, tokenizer, shared
) -> None:
    found, audits = {}, {}
    for name in ("several", "one"):
        audit = Audit()
        if name == "several":
            with worker_processes():
                encode(rows, tokenizer).write(tmp_path / name, audit)
        else:
            encode(rows, tokenizer).write(tmp_path / name, audit)
        found[name], audits[name] = (tmp_path / name).read_bytes(), json.dumps(audit.to_json())
    assert shared, "another process took part"
    assert found["several"] == found["one"]
    assert audits["several"] == audits["one"]
    audit, work = Audit(), encode(rows, tokenizer)
    whole = work.batching.encode(rows, work.template, tokenizer, audit, "train", SUPERVISED_DECODER)
    write_batches(tmp_path / "whole", to_batches(whole))
    assert ExampleTable(tmp_path / "whole").fingerprint() == ExampleTable(tmp_path / "several").fingerprint()
    assert json.dumps(audit.to_json()) == audits["several"]
    assert audit.count("truncated") > 100


@pytest.mark.slow
def test_the_error_is_that_of_the_first_row_that_has_one(tmp_path, rows, tokenizer, shared) -> None:
    messages = []
    for share in (True, False):
        with pytest.raises(InstructLabError) as error, worker_processes() if share else pytest.MonkeyPatch.context():
            encode(rows, tokenizer, overlong="error").write(tmp_path / "examples", Audit())
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "more than 90" in messages[0]
