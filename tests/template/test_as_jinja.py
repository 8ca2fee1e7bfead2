"""A text template is exported as a Jinja chat template that renders the same text."""

import pytest

from instruct_lab.data import Conversation, Message
from instruct_lab.experiment.check import check
from instruct_lab.model.byte_tokenizer import byte_tokenizer

CONVERSATIONS = [
    [("user", "Hi {{ x }} 'there' \"you\""), ("assistant", "Hello\n")],
    [("system", "Be kind.\n"), ("user", "Hé 你好"), ("assistant", "é"), ("user", "b"), ("assistant", "c")],
]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["alpaca", "plain", "chatml"])
@pytest.mark.parametrize("turns", CONVERSATIONS)
def test_the_jinja_text_renders_what_the_template_renders(option, turns):
    template = check(["model=tiny_random", f"template={option}"]).or_refuse().experiment.template
    tokenizer = byte_tokenizer()
    conversation = Conversation(tuple(Message(role, content) for role, content in turns))
    messages = [{"role": role, "content": content} for role, content in turns]
    jinja = template.as_jinja(tokenizer)
    whole = tokenizer.apply_chat_template(messages, tokenize=False, chat_template=jinja)
    assert whole == "".join(segment.text for segment in template.render(conversation, tokenizer))
    prompt = tokenizer.apply_chat_template(
        messages[:-1], tokenize=False, chat_template=jinja, add_generation_prompt=True
    )
    assert prompt == "".join(segment.text for segment in template.render_prompt(conversation, tokenizer))
