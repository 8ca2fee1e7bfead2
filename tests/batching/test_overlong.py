"""Conversations longer than the limit."""

import pytest
from support.chat_tokenizers import byte_level, conversation, unigram

from instruct_lab.batching import IGNORED, Padded
from instruct_lab.data import Audit
from instruct_lab.errors import InstructLabError
from instruct_lab.template import ChatTemplate, TextTemplate

WORDS = "The weather is nice today. Où êtes-vous ? 今天天气很好。 "
TOKENIZERS = {"chatml": byte_level("chatml"), "llama3": byte_level("llama3"), "unigram": unigram("first")}


def encode(conversations, tokenizer, template=None, **settings):
    audit = Audit()
    return list(Padded(**settings).encode(conversations, template or ChatTemplate(), tokenizer, audit, "train")), audit


def trained(example):
    return [label for label in example.labels if label != IGNORED]


def length(found, tokenizer):
    return len(encode([found], tokenizer, max_tokens=None)[0][0].input_ids)


def test_error_names_the_conversation_and_the_choices():
    found = conversation("Hello " * 50, "two", name="row 7")
    with pytest.raises(InstructLabError, match=r"more than 40.*row 7.*truncate_prompt"):
        encode([found], TOKENIZERS["chatml"], max_tokens=40, overlong="error")


def test_drop_counts_with_a_sample():
    found = conversation("Hello " * 50, "two")
    examples, audit = encode([found, conversation("a", "b")], TOKENIZERS["chatml"], max_tokens=40, overlong="drop")
    assert len(examples) == 1
    tally = audit.tallies["batching", "dropped", "train: longer than 40 tokens (batching.max_tokens)"]
    assert tally.samples[0]["before"].startswith("user: He")


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("limit", [60, 77, 100])
def test_a_cut_prompt_keeps_both_ends_the_header_and_the_whole_answer(tokenizer, limit):
    found = conversation("First: " + WORDS * 5 + "last.", "J'aime le TAL.")
    (example,), audit = encode([found], tokenizer, max_tokens=limit, overlong="truncate_prompt")
    assert limit - 8 <= len(example.input_ids) <= limit
    (whole,), _ = encode([found], tokenizer, max_tokens=None)
    assert trained(example) == trained(whole)
    text = tokenizer.decode(example.input_ids)
    header = "assistant"
    assert "First" in text
    assert "last." in text
    assert text.rindex("last.") < text.rindex(header)
    (tally,) = audit.tallies.values()
    assert (tally.stage, tally.action, tally.count) == ("batching", "truncated", 1)
    assert "middle of the prompt" in tally.reason
    assert tally.samples[0]["before"].startswith("First")
    assert tally.samples[0]["after"].endswith("last.")


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_a_cut_answer_keeps_its_beginning_and_its_end_of_turn_token(tokenizer):
    found = conversation("Hello", "First: " + WORDS * 10 + "last.")
    (example,), audit = encode([found], tokenizer, max_tokens=60, overlong="truncate_response")
    (whole,), _ = encode([found], tokenizer, max_tokens=None)
    assert 52 <= len(example.input_ids) <= 60
    end_of_turn = ChatTemplate().stop_token_ids(tokenizer)[0]
    assert trained(example)[-1] == end_of_turn
    assert trained(example)[:-4] == trained(whole)[: len(trained(example)) - 4]
    assert "end of the response" in next(iter(audit.tallies.values())).reason


@pytest.mark.parametrize("policy", ["truncate_prompt", "truncate_response"])
def test_a_cut_example_is_what_the_template_gives_for_the_shorter_text(policy):
    tokenizer = TOKENIZERS["chatml"]
    found = conversation("First: " + WORDS * 3 + "last.", WORDS * 4)
    limit = length(found, tokenizer) - 25
    (example,), audit = encode([found], tokenizer, max_tokens=limit, overlong=policy)
    sample = next(iter(audit.tallies.values())).samples[0]
    contents = [sample["after"] if m.content == sample["before"] else m.content for m in found.messages]
    (expected,), _ = encode([conversation(*contents)], tokenizer, max_tokens=None)
    assert example == expected


def test_the_longest_content_is_cut_first():
    tokenizer = TOKENIZERS["chatml"]
    found = conversation("short question", "a", WORDS * 9, "b", system="You are terse.")
    (example,), _ = encode([found], tokenizer, max_tokens=90, overlong="truncate_prompt")
    text = tokenizer.decode(example.input_ids)
    assert "short question" in text
    assert "You are terse." in text


def test_several_contents_are_cut_if_one_is_not_enough():
    tokenizer = TOKENIZERS["chatml"]
    found = conversation(WORDS * 5, "a", WORDS * 5, "b")
    (example,), audit = encode([found], tokenizer, max_tokens=60, overlong="truncate_prompt")
    assert len(example.input_ids) <= 60
    assert audit.count("truncated") == 1


@pytest.mark.parametrize(
    ("policy", "found"),
    [("truncate_prompt", conversation("a", WORDS * 9)), ("truncate_response", conversation(WORDS * 9, "a"))],
)
def test_conversations_that_cannot_fit_are_dropped_and_counted(policy, found):
    examples, audit = encode([found], TOKENIZERS["chatml"], max_tokens=50, overlong=policy)
    assert not examples
    assert audit.count("dropped", "batching") == 1
    assert audit.count("truncated") == 0


def test_an_answer_is_never_cut_to_nothing():
    tokenizer = TOKENIZERS["chatml"]
    found = conversation("Hello", WORDS * 9)
    shortest = length(conversation("Hello", ""), tokenizer)
    (example,), _ = encode([found], tokenizer, max_tokens=shortest + 1, overlong="truncate_response")
    assert len(trained(example)) == 2
    assert encode([found], tokenizer, max_tokens=shortest, overlong="truncate_response")[0] == []


@pytest.mark.parametrize("template", [ChatTemplate(), TextTemplate(default_system="Answer.")], ids=["chat", "text"])
@pytest.mark.parametrize("policy", ["truncate_prompt", "truncate_response"])
def test_the_prompt_of_a_cut_example_is_a_prefix_of_it(policy, template):
    tokenizer = TOKENIZERS["chatml"]
    found = [conversation(WORDS * 4, WORDS * 4), conversation("Hello", "two")]
    whole = encode(found, tokenizer, template, max_tokens=None)[0][0]
    settings = {"max_tokens": len(whole.input_ids) - 20, "overlong": policy}
    examples, audit = encode(found, tokenizer, template, **settings)
    assert audit.count("truncated") == 1
    prompts = Padded(**settings).encode_prompts(found, template, tokenizer)
    assert len(examples) == 2
    for example, prompt in zip(examples, prompts, strict=True):
        assert example.input_ids[: len(prompt)] == prompt
        assert trained(example) == example.input_ids[len(prompt) : len(prompt) + len(trained(example))]


@pytest.mark.parametrize("policy", ["truncate_prompt", "truncate_response"])
def test_no_cut_lands_inside_a_character(policy):
    tokenizer = TOKENIZERS["chatml"]
    emoji = "👩‍👩‍👧‍👦𝔘ก" * 30
    found = conversation(emoji, emoji)
    whole = length(found, tokenizer)
    for limit in range(whole - 40, whole):
        (example,), _ = encode([found], tokenizer, max_tokens=limit, overlong=policy)
        assert "\ufffd" not in tokenizer.decode(example.input_ids)
        assert len(example.input_ids) <= limit


def test_special_tokens_spelled_in_a_cut_content_stay_ordinary():
    tokenizer = TOKENIZERS["chatml"]
    found = conversation("<|im_end|>" * 40, "two")
    (example,), _ = encode([found], tokenizer, max_tokens=60, overlong="truncate_prompt")
    assert example.input_ids.count(tokenizer.eos_token_id) == 3  # system, user, assistant
