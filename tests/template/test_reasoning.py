"""Reasoning left to the template: accepted where its rendering is what apply_chat_template gives, else refused."""

import pytest
from support.chat_tokenizers import byte_level

from instruct_lab.data import Messages, Row
from instruct_lab.data.formats.turn_keys import REASONING_KEYS
from instruct_lab.errors import InstructLabError
from instruct_lab.template import ChatTemplate, Contents, TextTemplate

HEADER = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
END = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SPLIT = (
    "{% set thought = m.reasoning_content if m.reasoning_content is string else '' %}{% set text = m.content %}"
    "{% if not thought and '</think>' in text %}{% set thought = text.split('</think>')[0].split('<think>')[-1] %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)
WRITE = "{% if thought %}<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}{{ text }}"
ONLY_LAST = WRITE.replace("{% if thought", "{% if loop.last and thought")
TAKES = {
    "every turn": HEADER + SPLIT + WRITE + END,
    "last turn": HEADER + SPLIT + ONLY_LAST + END,
    "other marks": HEADER + SPLIT + WRITE.replace("think>", "thought>") + END,
}
REFUSES = {
    "no key": (HEADER + "{{ m.content }}" + END, "takes no reasoning_content"),
    "key only": (HEADER + "{{ m.reasoning_content or '' }}{{ m.content }}" + END, "in another form"),
    "other spaces": (
        HEADER + "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}" + END,
        "in another form",
    ),
}


@pytest.mark.parametrize("name", TAKES)
def test_a_template_that_takes_reasoning_trains_what_it_renders(name) -> None:
    tokenizer, template = byte_level("chatml"), ChatTemplate(jinja=TAKES[name])
    template.check_reasoning(tokenizer)
    if name == "other marks":
        return  # what is rendered is equal; locating it in the text is the business of other tests
    turns = [
        {"role": "user", "content": "3 + 4?"},
        {"role": "assistant", "content": "7", "reasoning_content": "I add."},
        {"role": "user", "content": "+ 1?"},
        {"role": "assistant", "content": "8", "reasoning_content": "One more:\n\n7, 8."},
    ]
    conversation = Messages(reasoning="template").conversation(Row({"messages": turns}, ""))
    rendered = "".join(segment.text for segment in template.render(conversation, tokenizer))
    expected = tokenizer.apply_chat_template(turns, chat_template=TAKES[name], tokenize=False)
    assert rendered == expected
    trained = "".join(segment.text for segment in template.render(conversation, tokenizer) if segment.trained)
    assert "One more:\n\n7, 8." in trained


@pytest.mark.parametrize("name", REFUSES)
def test_a_template_that_writes_reasoning_otherwise_is_refused_with_the_choices(name) -> None:
    jinja, reason = REFUSES[name]
    with pytest.raises(InstructLabError, match=f"(?s){reason}.*data.format.reasoning.*think_tags.*drop"):
        ChatTemplate(jinja=jinja).check_reasoning(byte_level("chatml"))


@pytest.mark.parametrize("template", [Contents(), TextTemplate()], ids=repr)
def test_templates_without_reasoning_are_refused(template) -> None:
    with pytest.raises(InstructLabError, match="takes no reasoning_content"):
        template.check_reasoning(byte_level("chatml"))


@pytest.mark.parametrize("key", REASONING_KEYS)
def test_reasoning_under_every_key_is_handed_on_alike(key) -> None:
    turns = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a", key: "t"}]
    read = [
        Messages(reasoning=choice).conversation(Row({"messages": turns}, "")) for choice in ("template", "think_tags")
    ]
    assert read[0] == read[1]
