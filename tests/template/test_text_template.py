"""Text templates: the packaged ones, word for word."""

from pathlib import Path

import pytest
import yaml
from support.chat_tokenizers import ALL, FAMILIES, byte_level, conversation, unigram

from instruct_lab.data import Conversation, Message
from instruct_lab.errors import InstructLabError, Refusal
from instruct_lab.template import ChatTemplate, Contents, TextTemplate

CONF = Path(__file__).parents[2] / "conf" / "template"


def option(name, **changes):
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    kind = {"TextTemplate": TextTemplate, "ChatTemplate": ChatTemplate, "Contents": Contents}[
        settings.pop("_target_").split(".")[-1]
    ]
    return kind(**(settings | changes))


def text_of(segments):
    return "".join(segment.text for segment in segments)


def test_every_option_file_builds():
    assert {path.stem for path in CONF.glob("*.yaml")} == {"alpaca", "chat", "chatml", "contents", "plain"}
    for path in CONF.glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith(f"# {path.stem}: ")
        option(path.stem)


def test_alpaca_is_worded_as_stanford_alpaca():
    segments = option("alpaca").render(conversation("Add 1 and 2.", "3"), unigram("first"))
    assert text_of(segments) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd 1 and 2.\n\n### Response:3</s>"
    )
    assert [segment.text for segment in segments if segment.trained] == ["3", "</s>"]


def test_a_system_message_replaces_the_alpaca_preamble():
    segments = option("alpaca").render(conversation("a", "b", "c", "d", system="Be brief."), unigram("first"))
    assert text_of(segments) == (
        "Be brief.\n\n### Instruction:\na\n\n### Response:b</s>\n\n### Instruction:\nc\n\n### Response:d</s>"
    )


def test_plain_is_the_messages_a_line_each():
    segments = option("plain").render(conversation("a", "b", "c", "d", system="s"), unigram("first"))
    assert text_of(segments) == "s\na\nb</s>\nc\nd</s>"


def test_chatml_is_the_stock_text_without_a_default_system_message():
    stock = FAMILIES["qwen"].jinja.replace("<think>\n\n</think>\n\n", "")
    for found in ALL:
        tokenizer = byte_level("qwen")
        segments = option("chatml").render(found, tokenizer)
        expected = ChatTemplate(jinja=stock).render(found, tokenizer)
        assert text_of(segments) == text_of(expected).removesuffix(
            "\n" if found.messages[-1].role == "assistant" else ""
        )
        assert [s for s in segments if s.trained] == [s for s in expected if s.trained]


@pytest.mark.parametrize("name", ["alpaca", "plain", "chatml"])
def test_prompts_are_the_segments_before_the_last_answer(name):
    template, tokenizer = option(name), byte_level("chatml")
    for found in ALL:
        if found.messages[-1].role == "assistant":
            segments = template.render(found, tokenizer)
            last = max(i for i, segment in enumerate(segments) if segment.starts_answer)
            assert template.render_prompt(found, tokenizer) == segments[:last]


def test_the_end_of_turn_is_eos_unless_named():
    tokenizer = byte_level("llama3")
    assert tokenizer.convert_ids_to_tokens(option("plain").stop_token_ids(tokenizer)) == ["<|end_of_text|>"]
    named = option("plain", turn_end="<|eot_id|>")
    assert text_of(named.render(conversation("a", "b"), tokenizer)).endswith("b<|eot_id|>")
    assert tokenizer.convert_ids_to_tokens(named.stop_token_ids(tokenizer)) == ["<|eot_id|>", "<|end_of_text|>"]


def test_an_end_of_turn_that_the_tokenizer_lacks_is_refused():
    with pytest.raises(InstructLabError, match=r"'<\|im_end\|>'.*template\.turn_end.*template=alpaca"):
        option("chatml").render(conversation("a", "b"), unigram("first"))
    with pytest.raises(InstructLabError, match="not a special token"):
        option("plain", turn_end="a").stop_token_ids(byte_level("chatml"))


def test_a_tokenizer_without_eos_is_refused():
    tokenizer = unigram("always")
    tokenizer.eos_token, kept = None, tokenizer.eos_token
    try:
        with pytest.raises(InstructLabError, match="no EOS token"):
            option("plain").render(conversation("a", "b"), tokenizer)
    finally:
        tokenizer.eos_token = kept


def test_a_role_without_a_pattern_is_refused_by_name():
    found = Conversation((Message("user", "a"), Message("tool", "b"), Message("assistant", "c")))
    with pytest.raises(InstructLabError, match=r"role 'tool'.*template\.tool"):
        option("plain").render(found, unigram("first"))
    with pytest.raises(InstructLabError, match="role 'system'"):
        option("plain", system=None).render(conversation("a", "b", system="c"), unigram("first"))


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("user", {"user": "no content"}),
        ("system", {"system": "{content}{content}"}),
        ("assistant_header", {"assistant_header": "A: {content}"}),
        ("turn_end", {"turn_end": ""}),
        ("default_system", {"system": None, "default_system": "a"}),
    ],
)
def test_patterns_are_checked_when_built(field, settings):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        TextTemplate(**settings)
    refusal = caught.value if isinstance(caught.value, Refusal) else None
    assert refusal.field == field if refusal else field in str(caught.value)
