"""Texts to which a chat template was applied already: counted, warned about, and parsed on request."""

import pytest
from support.chat_tokenizers import byte_level, conversation

from instruct_lab.batching import IGNORED, Padded
from instruct_lab.batching.base import STAGE
from instruct_lab.batching.example import Layout
from instruct_lab.batching.spelled_tokens import REASON, warn_of_spelled_tokens
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.template import ChatTemplate, TextTemplate

TEXT = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"


def text_of(content):
    return Conversation((Message("assistant", content),))


def encode(found, template, **settings):
    audit = Audit()
    examples = Padded(**settings).encode(found, template, byte_level("chatml"), audit, "train")
    return list(examples), audit


def test_a_text_with_a_template_is_encoded_as_that_template_on_request():
    tokenizer = byte_level("chatml")
    (example,), _ = encode([text_of(TEXT)], TextTemplate(system=None), special_tokens_in_text="parse")
    assert example.input_ids == [*tokenizer(TEXT)["input_ids"], tokenizer.eos_token_id]
    assert example.labels == [IGNORED, *example.input_ids[1:]]


@pytest.mark.parametrize("text", [TEXT.rstrip(), "two<|im_end|>", "<|im_start|>user\na<|im_end|>"])
def test_a_text_that_ends_its_turn_itself_gets_no_second_end(text):
    tokenizer = byte_level("chatml")
    (example,), _ = encode([text_of(text)], TextTemplate(system=None), special_tokens_in_text="parse")
    assert example.input_ids == tokenizer(text)["input_ids"]
    assert example.labels == [IGNORED, *example.input_ids[1:]]
    (ordinary,), _ = encode([text_of(text)], TextTemplate(system=None))
    assert tokenizer.decode(ordinary.input_ids) == text + tokenizer.eos_token


@pytest.mark.parametrize("end", ["<|im_end|>", " <|im_end|>"])
def test_an_answer_that_ends_itself_gets_no_second_end(end):
    examples, _ = encode([conversation("a", f"b{end}"), conversation("a", f"b{end[:-10]}")], ChatTemplate())
    assert examples[0].input_ids != examples[1].input_ids
    found = [conversation("a", f"b{end}"), conversation("a", f"b{end[:-10]}")]
    examples, _ = encode(found, ChatTemplate(), special_tokens_in_text="parse")
    assert examples[0].input_ids == examples[1].input_ids
    assert examples[0].labels == examples[1].labels


def test_by_default_it_is_ordinary_text():
    (example,), _ = encode([text_of(TEXT)], TextTemplate(system=None))
    tokenizer = byte_level("chatml")
    assert sum(number in tokenizer.all_special_ids for number in example.input_ids) == 1
    assert tokenizer.decode(example.input_ids) == TEXT + tokenizer.eos_token


@pytest.mark.parametrize("content", ["<|im_end|>", "two <|im_start|> three", "<|endoftext|>\n"])
def test_prompts_and_encoder_texts_are_parsed_alike(content):
    tokenizer = byte_level("chatml")
    found = conversation(content, "two")
    batching = Padded(special_tokens_in_text="parse")
    (example,) = batching.encode([found], ChatTemplate(), tokenizer, Audit(), "train")
    (prompt,) = batching.encode_prompts([found], ChatTemplate(), tokenizer)
    assert example.input_ids[: len(prompt)] == prompt
    text = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    assert prompt[: len(tokenizer(text)["input_ids"])] == tokenizer(text)["input_ids"]
    (encoder,) = batching.encode([found], ChatTemplate(), tokenizer, Audit(), "train", Layout(family="encoder"))
    assert encoder.input_ids == example.input_ids


def test_texts_are_counted_and_many_of_them_are_warned_about():
    found = [text_of(TEXT)] * 3 + [text_of("two <b>")] * 7
    _, audit = encode(found, TextTemplate(system=None))
    (tally,) = audit.tallies.values()
    assert (tally.action, tally.reason, tally.count) == ("reported", f"train: {REASON}", 3)
    warning = warn_of_spelled_tokens(audit, STAGE, "train", 10)
    assert warning is not None
    assert "3 of 10" in warning
    assert "batching.special_tokens_in_text=parse" in warning
    assert warn_of_spelled_tokens(audit, STAGE, "train", 30) is None
    assert warn_of_spelled_tokens(audit, STAGE, "test", 1) is None


def test_the_setting_is_in_the_key_of_cached_examples():
    assert Padded().encoding_settings() != Padded(special_tokens_in_text="parse").encoding_settings()
