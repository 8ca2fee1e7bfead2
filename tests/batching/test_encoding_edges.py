"""BOS tokens, slow tokenizers, and the state of the tokenizer after encoding."""

import pytest
from support.chat_tokenizers import FAMILIES, byte_level, conversation, unigram

from instruct_lab.batching import IGNORED, Padded, SegmentEncoder
from instruct_lab.data import Audit
from instruct_lab.errors import InstructLabError
from instruct_lab.template import ChatTemplate, Segment, TextTemplate

HELLO = conversation("Hello", "two")


def encode(tokenizer, template):
    return next(iter(Padded().encode([HELLO], template, tokenizer, Audit(), "train")))


def test_one_bos_if_the_template_writes_it():
    tokenizer = byte_level("llama3")
    assert encode(tokenizer, ChatTemplate()).input_ids.count(tokenizer.bos_token_id) == 1


def test_one_untrained_bos_if_the_template_does_not_write_it():
    tokenizer = byte_level("llama3")
    example = encode(tokenizer, TextTemplate())
    assert example.input_ids[0] == tokenizer.bos_token_id
    assert example.input_ids.count(tokenizer.bos_token_id) == 1
    assert example.labels[0] == IGNORED
    (prompt,) = Padded().encode_prompts([HELLO], TextTemplate(), tokenizer)
    assert prompt == example.input_ids[: len(prompt)]


def test_no_bos_if_the_tokenizer_adds_none():
    tokenizer = byte_level("qwen")
    assert tokenizer.decode(encode(tokenizer, TextTemplate()).input_ids) == "Hello\ntwo<|im_end|>"


def test_two_bos_are_refused():
    jinja = "{{ bos_token }}" + FAMILIES["llama3"].jinja
    with pytest.raises(InstructLabError, match="two BOS"):
        encode(byte_level("llama3"), ChatTemplate(jinja=jinja))


def test_a_slow_tokenizer_is_refused():
    class Slow:
        backend_tokenizer = None

    with pytest.raises(InstructLabError, match="Slow is a slow tokenizer"):
        SegmentEncoder(Slow())


def test_padding_and_truncation_that_someone_else_set_do_not_reach_the_ids():
    tokenizer = byte_level("chatml")
    encoder, segments = SegmentEncoder(tokenizer), ChatTemplate().render(HELLO, tokenizer)
    expected = encoder.encode([segments])
    for options in ({"padding": "max_length", "max_length": 40}, {"truncation": True, "max_length": 4}):
        tokenizer(["a", "a longer text"], **options)
        assert encoder.encode([segments]) == expected


@pytest.mark.parametrize("tokenizer", [byte_level("chatml"), unigram("first")], ids=["bpe", "unigram"])
def test_the_tokenizer_treats_special_tokens_as_before(tokenizer):
    text = f"a{tokenizer.eos_token}"
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = conversation(f"{tokenizer.eos_token} a", f"{tokenizer.eos_token}")
    list(Padded().encode([found], ChatTemplate(), tokenizer, Audit(), "train"))
    assert tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids == before


def test_tokens_do_not_cross_a_change_of_trained():
    tokenizer = byte_level("chatml")
    joined = SegmentEncoder(tokenizer).encode([[Segment("Hel", False), Segment("lo", False)]])[0]
    apart = SegmentEncoder(tokenizer).encode([[Segment("Hel", False), Segment("lo", True)]])[0]
    assert joined.input_ids == tokenizer("Hello", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode([label for label in apart.labels if label != IGNORED]) == "lo"


def test_tokens_do_not_cross_the_start_of_an_answer_even_if_all_is_trained():
    tokenizer = byte_level("chatml")
    whole = [Segment("Hel", True), Segment("lo", True, "assistant", starts_answer=True)]
    (example,) = SegmentEncoder(tokenizer).encode([whole])
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Hel", "lo")]
    assert example.input_ids == [*ids[0], *ids[1]]


def test_an_example_without_a_target_is_counted_and_dropped():
    audit = Audit()
    examples = list(
        Padded().encode([HELLO, conversation("only a question")], ChatTemplate(), byte_level("chatml"), audit, "train")
    )
    assert len(examples) == 1
    assert audit.stages["batching"] == {"in": 2, "out": 1}
    assert audit.tallies["batching", "dropped", "train: no target token"].count == 1
    assert audit.to_json()["reasons"][0]["samples"][0]["before"] == "user: only a question"
