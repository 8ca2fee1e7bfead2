"""Templates that re-wrap, shorten or trim contents: what is trained is a part of the text that they give.

Each template is written twice: in Jinja, and in Python with the characters that are trained.
"""

import itertools
from functools import cache

import pytest
from support.chat_tokenizers import Family, byte_level_of, conversation, messages_of

from instruct_lab.batching import IGNORED, Padded
from instruct_lab.data import Audit, Conversation, Message
from instruct_lab.errors import InstructLabError
from instruct_lab.template import ChatTemplate

CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


class Writer:
    """A text with the spans of it that are trained."""

    def __init__(self):
        self.text, self.spans = "", []

    def write(self, text, trained=False):
        if trained and self.spans and self.spans[-1][1] == len(self.text):
            self.spans[-1] = (self.spans[-1][0], len(self.text) + len(text))
        elif trained:
            self.spans.append((len(self.text), len(self.text) + len(text)))
        self.text += text


QWEN = """
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for m in messages %}
{%- if m.role != 'assistant' %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- else %}
{%- set answer, thought = m.content, '' %}
{%- if '</think>' in answer %}
{%- set thought = answer.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
{%- set answer = answer.split('</think>')[-1].lstrip('\n') %}
{%- endif %}
{{- '<|im_start|>assistant\n' }}
{%- if loop.index0 > ns.last and (loop.last or thought) %}
{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + answer.lstrip('\n') }}
{%- else %}{{- answer }}{%- endif %}{{- '<|im_end|>\n' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""


def write_qwen(messages, writer):
    last_question = max((i for i, m in enumerate(messages) if m.role == "user"), default=-1)
    for index, m in enumerate(messages):
        writer.write(f"<|im_start|>{m.role}\n")
        if m.role != "assistant":
            writer.write(m.content + "<|im_end|>\n")
            continue
        thinks = "</think>" in m.content
        thought, answer = m.content.split("</think>")[0] if thinks else "", m.content.split("</think>")[-1]
        answer = answer.lstrip("\n") if thinks else answer
        if index > last_question and (index == len(messages) - 1 or thinks):
            thought = thought.rpartition("<think>")[2].strip("\n")
            writer.write("<think>\n", trained="<think>" in m.content)
            writer.write(f"{thought}\n</think>\n\n", trained=thinks)
            answer = answer.lstrip("\n")
        writer.write(answer, trained=True)
        writer.write("<|im_end|>", trained=True)
        writer.write("\n")


LLAMA2 = """
{%- if messages[0].role == 'system' %}{%- set turns = messages[1:] %}{%- set system = messages[0].content %}
{%- else %}{%- set turns = messages %}{%- set system = false %}{%- endif %}
{%- for m in turns %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Turns have to alternate') }}{%- endif %}
{%- if m.role == 'user' %}{%- if loop.first and system %}
{%- set text = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m.content %}{%- else %}{%- set text = m.content %}{%- endif %}
{{- bos_token + '[INST] ' + text.strip() + ' [/INST]' }}
{%- else %}{{- ' ' + m.content.strip() + ' ' + eos_token }}{%- endif %}{%- endfor %}"""


def write_llama2(messages, writer):
    system = ""
    for m in messages:
        if m.role == "system":
            system = f"<<SYS>>\n{m.content}\n<</SYS>>\n\n"
        elif m.role == "user":
            writer.write(f"<s>[INST] {(system + m.content).strip()} [/INST]")
            system = ""
        else:
            writer.write(f" {m.content.strip()} </s>", trained=True)


MISTRAL = """
{{- bos_token }}{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Turns have to alternate') }}{%- endif %}
{%- if m.role == 'user' %}{{- '[INST] ' + m.content + '[/INST]' }}
{%- else %}{{- ' ' + m.content|trim + eos_token }}{%- endif %}{%- endfor %}"""


def write_mistral(messages, writer):
    writer.write("<s>")
    for m in messages:
        if m.role == "user":
            writer.write(f"[INST] {m.content}[/INST]")
        else:
            writer.write(f" {m.content.strip()}</s>", trained=True)


GEMMA = """
{{- bos_token }}{%- set ns = namespace(prefix='') %}
{%- if messages[0].role == 'system' %}{%- set ns.prefix = messages[0].content + '\n\n' %}
{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}{%- endif %}
{%- for m in turns %}
{{- '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + (ns.prefix if loop.first else '') }}
{{- m.content | trim + '<end_of_turn>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{%- endif %}"""


def write_gemma(messages, writer):
    writer.write("<bos>")
    prefix = ""
    for m in messages:
        if m.role == "system":
            prefix = m.content + "\n\n"
            continue
        answers = m.role == "assistant"
        writer.write(f"<start_of_turn>{'model' if answers else m.role}\n{prefix}")
        writer.write(m.content.strip() + "<end_of_turn>", trained=answers)
        writer.write("\n")
        prefix = ""


SMOLLM3 = """
{%- set thinks = enable_thinking is not defined or enable_thinking %}
{%- set own = messages[0].content if messages[0].role == 'system' else 'You are terse.' %}
{%- if '/no_think' in own %}{%- set thinks = false %}{%- endif %}
{{- '<|im_start|>system\nToday: ' + strftime_now('%d %B %Y') + '\nMode: ' + ('/think' if thinks else '/no_think') }}
{{- '\n' + own.replace('/no_think', '').replace('/think', '').rstrip() + '<|im_end|>\n' }}
{%- for m in messages %}
{%- if m.role == 'user' %}{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}
{%- elif m.role == 'assistant' %}{{- '<|im_start|>assistant\n' }}
{%- if not thinks %}{{- '<think>\n\n</think>\n' }}{%- endif %}
{{- m.content.lstrip('\n') + '<|im_end|>\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if not thinks %}{{- '<think>\n\n</think>\n' }}{%- endif %}{%- endif %}"""


def write_smollm3(messages, writer):
    own = messages[0].content if messages[0].role == "system" else "You are terse."
    mode = "/no_think" if "/no_think" in own else "/think"
    own = own.replace("/no_think", "").replace("/think", "").rstrip()
    writer.write(f"<|im_start|>system\nToday: 26 July 2024\nMode: {mode}\n{own}<|im_end|>\n")
    for m in messages:
        if m.role == "user":
            writer.write(f"<|im_start|>user\n{m.content}<|im_end|>\n")
        elif m.role == "assistant":
            writer.write("<|im_start|>assistant\n" + ("<think>\n\n</think>\n" if mode == "/no_think" else ""))
            writer.write(m.content.lstrip("\n") + "<|im_end|>", trained=True)
            writer.write("\n")


GPT_OSS = """
{{- '<|start|>system<|message|>Current date: ' + strftime_now("%Y-%m-%d") + '<|end|>' }}
{%- for m in messages %}
{%- if m.role == 'system' %}{{- '<|start|>developer<|message|># Instructions\n\n' + m.content + '<|end|>' }}
{%- elif m.role == 'user' %}{{- '<|start|>user<|message|>' + m.content + '<|end|>' }}
{%- else %}
{%- if '<|channel|>' in m.content %}{{ raise_exception('Write thoughts to the key thinking') }}{%- endif %}
{{- '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"""


def write_gpt_oss(messages, writer):
    writer.write("<|start|>system<|message|>Current date: 2024-07-26<|end|>")
    for index, m in enumerate(messages):
        if m.role == "system":
            writer.write(f"<|start|>developer<|message|># Instructions\n\n{m.content}<|end|>")
        elif m.role == "user":
            writer.write(f"<|start|>user<|message|>{m.content}<|end|>")
        else:
            end = "<|return|>" if index == len(messages) - 1 else "<|end|>"
            writer.write("<|start|>assistant<|channel|>final<|message|>")
            writer.write(m.content + end, trained=True)


LLAMA_TOKENS = ("<s>", "</s>", "<unk>")
GPT_OSS_TOKENS = ("<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")
TEMPLATES = {
    "qwen3": (QWEN, write_qwen, CHATML, "<|im_end|>", None),
    "llama2": (LLAMA2, write_llama2, LLAMA_TOKENS, "</s>", "<s>"),
    "mistral": (MISTRAL, write_mistral, LLAMA_TOKENS, "</s>", "<s>"),
    "gemma": (GEMMA, write_gemma, ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>"),
    "smollm3": (SMOLLM3, write_smollm3, CHATML, "<|im_end|>", None),
    "gpt_oss": (GPT_OSS, write_gpt_oss, GPT_OSS_TOKENS, "<|return|>", "<|endoftext|>"),
}
THOUGHT = "<think>\n3 mod 2 is 1.\n</think>\n\n"
CONVERSATIONS = {
    "one turn": conversation("Hello", "How are you today?"),
    "system": conversation("Hello", "two", system="You are a pirate."),
    "three turns": conversation("Hello", "one", "a", "b", "c", "three"),
    "a thought": conversation("Is 3 even?", THOUGHT + "No"),
    "thoughts": conversation("Is 3 even?", THOUGHT + "No", "And 6?", THOUGHT + "Yes"),
    "a thought in the history": conversation("Is 3 even?", THOUGHT + "No", "And 6?", "Yes"),
    "a thought wrapped otherwise": conversation("Is 3 even?", "<think>3 mod 2</think>No </think> <b>", system="a"),
    "half a thought": conversation("Is 3 even?", "3 mod 2 is 1.\n</think>\nNo"),
    "a thought about nothing": conversation("Hello", "<think>\n\n</think>\n\ntwo"),
    "a question about thoughts": conversation("What is <think>a</think>?", THOUGHT + "Markup", "<think>", "b"),
    "a switch": conversation("Hello", "two", system="You are terse. /no_think"),
    "white space": conversation("Sum: 1+1 ", "two\n", "a ", " b "),
    "lines": conversation("line one\nline two", "\nline three\n\nline four", system="a"),
    "letters of the template": conversation("user", "assistant", "\nassistant", "model [/INST] INST"),
}


@cache
def tokenizer_of(name):
    jinja, _, specials, eos, bos = TEMPLATES[name]
    return byte_level_of(Family(jinja, None, "", specials, eos, bos))


def allowed(name):
    return [c for c in CONVERSATIONS.values() if name != "mistral" or c.messages[0].role != "system"]


def encode(name, found, **settings):
    template, tokenizer = ChatTemplate(**settings), tokenizer_of(name)
    (example,) = Padded().encode([found], template, tokenizer, Audit(), "train")
    return example


def labels_by_offsets(tokenizer, text, spans):
    """Ids and labels of the text, cut where an answer starts: tokens in a trained span are trained."""
    ids, labels = [], []
    for left, right in itertools.pairwise([0, *(start for start, _ in spans), len(text)]):
        encoded = tokenizer(text[left:right], add_special_tokens=False, return_offsets_mapping=True)
        ids += encoded["input_ids"]
        for number, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            inside = any(a <= left + start and left + stop <= b for a, b in spans)
            labels.append(number if inside else IGNORED)
    return ids, labels


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_is_trained_equals_a_computation_by_character_offsets(name):
    tokenizer, write = tokenizer_of(name), TEMPLATES[name][1]
    for found in allowed(name):
        writer = Writer()
        write(found.messages, writer)
        dated = tokenizer.chat_template.replace("strftime_now('%d %B %Y')", "'26 July 2024'")
        dated = dated.replace('strftime_now("%Y-%m-%d")', "'2024-07-26'")
        assert writer.text == tokenizer.apply_chat_template(messages_of(found), tokenize=False, chat_template=dated)
        ids, labels = labels_by_offsets(tokenizer, writer.text, writer.spans)
        example = encode(name, found)
        assert example.input_ids == ids, found
        assert example.labels == labels, found


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
