"""A Modelfile renders conversations as the run's template does, and stops where the template ends an answer."""

import dataclasses
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.chat_tokenizers import FAMILIES, byte_level, conversation

from instruct_lab.data import Message
from instruct_lab.errors import InstructLabError
from instruct_lab.export.ollama import find_turn_format, modelfile
from instruct_lab.template import ChatTemplate

CONVERSATIONS = [
    conversation("Hello"),
    conversation("Hello", system="You are a pirate."),
    conversation("你好", "answer", "next {{ .Content }}"),
    conversation("a", "b\n\nc", "d", "e", "f", system="s"),
]
SUPPORTED = [name for name, family in FAMILIES.items() if family.has_system]
ACTION = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)


def execute(template, messages):
    """Execute the part of Go's template language that is used, on the data that Ollama passes."""
    pieces = ACTION.split(template)  # text, action, text, action, ...
    system = "\n\n".join(message.content for message in messages if message.role == "system")

    def block(index, message, is_written):
        """Execute up to the `else` or `end` of this block; returns the text and the index of that action."""
        out = pieces[index - 1] if is_written else ""
        while index < len(pieces):
            action = pieces[index]
            if action == "end" or action.startswith("else"):
                return out, index
            if action.startswith(("if ", "range ")):
                text, index = nested(index, message, is_written)
                out += text
            elif action == ".Content":
                out += message.content if is_written else ""
            else:
                assert action == '"{{"', action
                out += "{{" if is_written else ""
            out += pieces[index + 1] if is_written else ""
            index += 2
        return out, index

    def holds(condition, message):
        if condition == ".System":
            return bool(system)
        role = re.fullmatch(r'eq \.Role "(\w+)"', condition)[1]
        return message is not None and message.role == role

    def nested(index, message, is_written):
        action = pieces[index]
        if action.startswith("range "):
            assert action == "range .Messages"
            texts = [block(index + 2, one, is_written)[0] for one in messages]
            return "".join(texts), block(index + 2, None, False)[1]
        text, is_done = "", False
        while True:
            action = pieces[index]
            condition = re.sub(r"^(else )?if ", "", action)
            runs = not is_done and (action == "else" or holds(condition, message))
            part, index = block(index + 2, message, is_written and runs)
            text, is_done = text + part, is_done or runs
            if pieces[index] == "end":
                return text, index

    return block(1, None, True)[0]


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("found", CONVERSATIONS)
def test_the_go_template_renders_what_the_family_writes(name, found):
    tokenizer, family = byte_level(name), FAMILIES[name]
    stops = [family.end_of_turn, family.eos]
    bos = family.bos if family.adds_bos else ""
    text, spans = family.write([*found.messages, Message("assistant", "answer")])
    form = find_turn_format(ChatTemplate(), tokenizer, stops)
    assert bos + execute(form.to_go(bos), found.messages) == text[: spans[-1][0]]


@settings(max_examples=60)
@given(
    turns=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=8), min_size=1),
    system=st.none() | st.text(st.sampled_from('ab{}\n "'), min_size=1, max_size=8),
)
def test_any_conversation_is_rendered_alike(turns, system):
    turns = turns if len(turns) % 2 else turns[:-1] or turns
    tokenizer = byte_level("chatml")
    form = find_turn_format(ChatTemplate(), tokenizer, ["<|im_end|>"])
    found = conversation(*turns, system=system) if len(turns) % 2 else conversation(turns[0], system=system)
    messages = [{"role": one.role, "content": one.content} for one in found.messages]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert execute(form.to_go(), found.messages) == expected


def test_chatml_is_written_as_a_reader_would_write_it():
    plain = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    plain += "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    form = find_turn_format(ChatTemplate(jinja=plain), byte_level("chatml"), ["<|im_end|>"])
    assert form.opening == form.without_system == ""
    assert form.turns == {role: (f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")}
    assert form.answer == "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "jinja",
    [
        # the system message stands inside the first message of the user
        "{% for m in messages %}{% if m.role == 'user' %}[INST] "
        "{% if loop.index0 == 1 and messages[0].role == 'system' %}<<{{ messages[0].content }}>> {% endif %}"
        "{{ m.content }} [/INST]{% elif m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}",
        # turns are numbered
        "{% for m in messages %}<|im_start|>{{ loop.index }} {{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        # only the last answer is kept
        "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        # a system message is refused
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}<|im_start|>"
        "{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ],
    ids=["system-in-user", "numbered", "dropped", "refused"],
)
def test_a_template_that_does_more_is_refused(jinja):
    with pytest.raises(InstructLabError, match="--format gguf"):
        find_turn_format(ChatTemplate(jinja=jinja), byte_level("chatml"), ["<|im_end|>"])


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_the_modelfile_names_stops_and_decoding(name, tiny):
    from instruct_lab.experiment.check import check

    family = FAMILIES[name]
    overrides = ["generation.max_new_tokens=7", "generation.repetition_penalty=1.2"]
    experiment = check(["model=tiny_random", "template=chat", *overrides]).or_refuse().experiment
    stops = [family.end_of_turn, family.eos]
    text = modelfile(experiment, byte_level(name), "model-f16.gguf", stops)
    assert text.startswith('FROM ./model-f16.gguf\nTEMPLATE """')
    for stop in stops:
        assert f'PARAMETER stop "{stop}"\n' in text
    for line in ("temperature 0", "repeat_penalty 1.2", "num_predict 7"):
        assert f"PARAMETER {line}\n" in text
    assert text.split('"""')[1].count("<|begin_of_text|>") == 0  # Ollama adds it
    sampled = dataclasses.replace(experiment.generation, do_sample=True, temperature=0.5, top_p=0.9)
    text = modelfile(dataclasses.replace(experiment, generation=sampled), byte_level(name), "m.gguf", stops)
    for line in ("temperature 0.5", "top_p 0.9", "top_k 0"):
        assert f"PARAMETER {line}\n" in text


def test_messages_of_other_conversations_are_rendered_by_role():
    form = find_turn_format(ChatTemplate(), byte_level("chatml"), ["<|im_end|>"])
    text = form.render([Message("user", "a"), Message("assistant", "b"), Message("user", "c")])
    assert text.endswith("<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n")
