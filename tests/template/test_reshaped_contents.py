"""Templates that re-wrap, shorten or trim contents: what is trained is a part of the text that they give."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.chat_tokenizers import Family, byte_level_of, conversation, messages_of
from support.written_templates import (
    CHATML,
    CONVERSATIONS,
    LLAMA_TOKENS,
    MISTRAL,
    QWEN,
    REFUSES,
    TEMPLATES,
    THOUGHT,
    Writer,
    allowed,
    fixed_dates,
    labels_by_offsets,
    takes,
    tokenizer_of,
)

from instruct_lab.batching import IGNORED, Padded
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.template import ChatTemplate, RefusedConversation


def encode(name, found, **settings):
    template, tokenizer = ChatTemplate(**settings), tokenizer_of(name)
    (example,) = Padded().encode([found], template, tokenizer, Audit(), "train")
    return example


def check_labels(name, found):
    """Compare an example with a computation by character offsets; return its number of trained tokens."""
    tokenizer, writer = tokenizer_of(name), Writer()
    TEMPLATES[name][1](found.messages, writer)
    dated = fixed_dates(tokenizer.chat_template)
    assert writer.text == tokenizer.apply_chat_template(messages_of(found), tokenize=False, chat_template=dated)
    ids, labels = labels_by_offsets(tokenizer, writer.text, writer.spans)
    example = encode(name, found)
    assert example.input_ids == ids, found
    assert example.labels == labels, found
    return sum(label != IGNORED for label in labels), len(ids)


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_trained_equals_a_computation_by_character_offsets(name):
    counts = [check_labels(name, found) for found in allowed(name)]
    trained, tokens = map(sum, zip(*counts, strict=True))
    refused = len(CONVERSATIONS) - len(counts)
    print(
        f"{name:14} {len(counts):3} conversations equal, {trained:5} of {tokens:5} tokens trained, {refused} not taken"
    )
    for found in CONVERSATIONS.values():
        if not takes(name, found) and name in REFUSES:
            with pytest.raises(RefusedConversation):
                encode(name, found)


TEXTS = st.text(st.sampled_from("ab .,:#\n\t é你ש😀[]/INST{}%'\"\\"), max_size=12)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_text_is_trained_as_a_computation_by_character_offsets_says(name, data):
    texts = TEXTS.filter(str.strip) if name == "llama2" else TEXTS  # it changes its own text beside an empty one
    turns = data.draw(st.lists(st.tuples(texts, TEXTS.filter(str.strip)), min_size=1, max_size=3))
    system = data.draw(st.none() | texts)
    found = conversation(*(text for turn in turns for text in turn), system=system)
    if takes(name, found):
        check_labels(name, found)


REORDERS = """
{%- for m in messages if m.role != 'system' %}{{- '<|im_start|>' + m.role + '\n' + m.content }}
{%- if loop.index0 == 0 and messages[0].role == 'system' %}{{- '\n' + messages[0].content }}{%- endif %}
{{- '<|im_end|>\n' }}{%- endfor %}"""
DROPS = REORDERS.replace("loop.index0 == 0", "false")
MERGED = "preprocessing.steps.normalize.roles={system:user}"
HOSTILE = {
    "moves the system message": (REORDERS, "moves the content of message 1 (role 'system'", MERGED),
    "drops the system message": (DROPS, "drops the content of message 1 (role 'system'", MERGED),
    "ends turns by a text": (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n### End\n' }}{% endfor %}",
        "does not end an assistant's turn with a special token",
        "model.tokenizer.extra_special_tokens=['### End']",
    ),
    "begins with two BOS tokens": (MISTRAL.replace("bos_token", "bos_token + bos_token", 1), "two BOS", "remove one"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_that_cannot_be_trained_is_refused_with_the_step_that_helps(name):
    jinja, what, do = HOSTILE[name]
    tokenizer = tokenizer_of("mistral" if "BOS" in name else "qwen3")
    if "BOS" in name:
        tokenizer = byte_level_of(Family(jinja, None, "", LLAMA_TOKENS, "</s>", "<s>", adds_bos=True))
    found = conversation("Hello", "two", "a", "b", system=None if "BOS" in name else "You are terse.")
    with pytest.raises(InstructLabError) as caught:
        list(Padded().encode([found], ChatTemplate(jinja=jinja), tokenizer, Audit(), "train"))
    print(f"{name:28} refused: {caught.value.what}")
    assert what in str(caught.value)
    assert do in str(caught.value)


def test_a_text_that_ends_turns_is_trained_once_it_is_a_special_token():
    jinja = HOSTILE["ends turns by a text"][0]
    tokenizer = byte_level_of(Family(jinja, None, "", (*CHATML, "### End"), "<|im_end|>"))
    found = conversation("Hello", "two", "a", "b ### End", system="You are terse.")
    (example,) = Padded().encode([found], ChatTemplate(), tokenizer, Audit(), "train")
    trained = tokenizer.decode([label for label in example.labels if label != IGNORED])
    assert trained == "two\n### Endb ### End\n### End"
    (end,) = [tokenizer.convert_tokens_to_ids("### End")]
    assert example.labels.count(end) == 2
    assert ChatTemplate().stop_token_ids(tokenizer)[0] == end


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_is_the_beginning_of_its_example(name):
    for found in allowed(name):
        (prompt,) = Padded().encode_prompts([found], ChatTemplate(), tokenizer_of(name))
        example = encode(name, found, train_on="last_assistant")
        first_trained = next(i for i, label in enumerate(example.labels) if label != IGNORED)
        assert example.input_ids[: len(prompt)] == prompt
        assert first_trained == len(prompt)


@pytest.mark.parametrize("name", ["llama2", "mistral"])
def test_the_space_before_an_answer_belongs_to_its_first_token_as_in_the_whole_text(name):
    found, tokenizer = conversation("Hello", "How are you today?"), tokenizer_of(name)
    text = tokenizer.apply_chat_template(messages_of(found), tokenize=False)
    assert encode(name, found).input_ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    (prompt,) = Padded().encode_prompts([found], ChatTemplate(), tokenizer)
    assert tokenizer.decode(prompt).endswith("[/INST]")


def test_stop_tokens_come_after_white_space_too():
    assert ChatTemplate().stop_token_ids(tokenizer_of("llama2")) == [1]
    assert ChatTemplate().stop_token_ids(tokenizer_of("gpt_oss")) == [5]


@pytest.mark.parametrize(
    ("name", "opening"), [("qwen3", "<think>\n\n</think>\n\n"), ("gpt_oss", "<|channel|>final<|message|>")]
)
def test_an_answer_starts_after_the_generation_prompt_on_request(name, opening):
    tokenizer, found = tokenizer_of(name), conversation("Hello", "two")
    example = encode(name, found, answers_from="generation_prompt")
    trained = tokenizer.decode([label for label in example.labels if label != IGNORED])
    assert trained.startswith(opening + "two")
    settings = ChatTemplate(answers_from="generation_prompt")
    for prompted in (found, Conversation(found.messages[:1])):
        (prompt,) = Padded().encode_prompts([prompted], settings, tokenizer)
        dated = tokenizer.chat_template.replace('strftime_now("%Y-%m-%d")', "'2024-07-26'")
        assert tokenizer.decode(prompt) == tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hello"}], tokenize=False, add_generation_prompt=True, chat_template=dated
        )
        assert example.input_ids[: len(prompt)] == prompt


def test_an_answer_starts_after_an_empty_thought_if_the_generation_prompt_has_it():
    found = conversation("Hello", "two")
    off = {"variables": {"enable_thinking": False}}
    trained = encode("qwen3", found, answers_from="generation_prompt", **off).labels
    assert trained == encode("qwen3", found, **off).labels


def test_special_tokens_that_the_template_writes_around_a_thought_are_these_tokens():
    tokenizer = byte_level_of(Family(QWEN, None, "", (*CHATML, "<think>", "</think>"), "<|im_end|>"))
    opens, closes = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    found = conversation("Is </think> odd?", "<think>3 mod 2</think>No")
    (example,) = Padded().encode([found], ChatTemplate(), tokenizer, Audit(), "train")
    assert example.input_ids.count(opens) == example.labels.count(opens) == 1
    assert example.input_ids.count(closes) == example.labels.count(closes) == 1


def test_an_overlong_answer_with_a_thought_is_cut():
    found = conversation("Is 3 even?", THOUGHT + "No, " * 50)
    audit = Audit()
    batching = Padded(max_tokens=60, overlong="truncate_response")
    (example,) = batching.encode([found], ChatTemplate(), tokenizer_of("qwen3"), audit, "train")
    assert len(example.input_ids) <= 60
    assert audit.count("truncated") == 1


def test_an_answer_that_the_template_empties_is_refused_by_its_role():
    with pytest.raises(InstructLabError, match="message 2 \\(assistant\\)"):
        ChatTemplate().render(conversation("Hello", "<think>a</think>", "b", "c"), tokenizer_of("qwen3"))


def test_text_that_a_template_inserts_inside_an_answer_is_trained_with_it():
    jinja = QWEN.replace(
        "{%- set answer, thought",
        "{%- set m = {'content': m.content.replace('--', '—'), 'role': m.role} %}{%- set answer, thought",
    )
    found = Conversation((Message("user", "a -- b"), Message("assistant", "one -- two -- three")))
    segments = ChatTemplate(jinja=jinja).render(found, tokenizer_of("qwen3"))
    assert [segment.text for segment in segments if segment.trained] == ["one — two — three", "<|im_end|>"]
