"""Chat templates, each written twice: in Jinja, and in Python with the characters that are trained.

First come the families of the models that have an option, then templates that are hostile to a trainer.
"""

import itertools
from functools import cache

from instruct_lab.batching import IGNORED
from instruct_lab.data import Conversation, Message
from support.chat_tokenizers import Family, byte_level_of, conversation

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


SMOLLM2 = """
{%- for m in messages %}{%- if loop.first and messages[0].role != 'system' %}
{{- '<|im_start|>system\nYou are terse.<|im_end|>\n' }}{%- endif %}
{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""


def write_smollm2(messages, writer):
    if messages[0].role != "system":
        writer.write("<|im_start|>system\nYou are terse.<|im_end|>\n")
    for m in messages:
        writer.write(f"<|im_start|>{m.role}\n")
        writer.write(m.content, trained=m.role == "assistant")
        writer.write("<|im_end|>", trained=m.role == "assistant")
        writer.write("\n")


QWEN25 = """
{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\nYou are terse.<|im_end|>\n' }}{%- endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\n' }}{%- endif %}
{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""


def write_qwen25(messages, writer):
    if messages[0].role != "system":
        writer.write("<|im_start|>system\nYou are terse.<|im_end|>\n")
    for index, m in enumerate(messages):
        if m.role == "tool":
            before, after = messages[index - 1].role, [other.role for other in messages[index + 1 :]][:1]
            writer.write(("" if before == "tool" else "<|im_start|>user") + f"\n<tool_response>\n{m.content}")
            writer.write("\n</tool_response>" + ("" if after == ["tool"] else "<|im_end|>\n"))
            continue
        writer.write(f"<|im_start|>{m.role}\n")
        writer.write(m.content + "<|im_end|>", trained=m.role == "assistant")
        writer.write("\n")


LLAMA3 = """
{{- bos_token }}
{%- if date_string is not defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}
{%- if messages[0].role == 'system' %}{%- set system = messages[0].content | trim %}{%- set turns = messages[1:] %}
{%- else %}{%- set system = '' %}{%- set turns = messages %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\n\nToday Date: ' + date_string + '\n\n' + system + '<|eot_id|>' }}
{%- for m in turns %}
{%- if m.role == 'tool' %}
{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}
{%- else %}{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"""


def write_llama3(messages, writer):
    system, turns = "", list(messages)
    if messages[0].role == "system":
        system, turns = messages[0].content.strip(), turns[1:]
    writer.write(f"<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n{system}<|eot_id|>")
    for m in turns:
        role = "ipython" if m.role == "tool" else m.role
        content = m.content if m.role == "tool" else m.content.strip()
        writer.write(f"<|start_header_id|>{role}<|end_header_id|>\n\n")
        writer.write(content + "<|eot_id|>", trained=m.role == "assistant")


STRIPS = """
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' %}{{- m.content.strip() }}{%- elif m.role == 'user' %}{{- m.content.rstrip() }}
{%- else %}{{- m.content.strip('\n') }}{%- endif %}{{- ' <|im_end|>\n' }}{%- endfor %}"""


def write_strips(messages, writer):
    strips = {"assistant": str.strip, "user": str.rstrip}
    for m in messages:
        writer.write(f"<|im_start|>{m.role}\n")
        content = strips.get(m.role, lambda text: text.strip("\n"))(m.content)
        writer.write(content + " <|im_end|>", trained=m.role == "assistant")
        writer.write("\n")


REWRAPS = """
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' and '</think>' in m.content %}
{%- set thought = m.content.split('</think>')[0].replace('<think>', '').strip() %}
{%- set answer = m.content.split('</think>')[-1].strip() %}
{{- '[reasoning: ' + thought + '] ' + answer }}
{%- else %}{{- m.content }}{%- endif %}{{- '<|im_end|>\n' }}{%- endfor %}"""


def write_rewraps(messages, writer):
    for m in messages:
        writer.write(f"<|im_start|>{m.role}\n")
        if m.role == "assistant" and "</think>" in m.content:
            thought = m.content.split("</think>")[0].replace("<think>", "").strip()
            answer = m.content.split("</think>")[-1].strip()
            writer.write(f"[reasoning: {thought}] {answer}<|im_end|>", trained=True)
        else:
            writer.write(m.content + "<|im_end|>", trained=m.role == "assistant")
        writer.write("\n")


DATED = """
{%- for m in messages %}
{{- '<|im_start|>' + m.role + ' (' + strftime_now('%d %B %Y') + ')\n' + m.content + '<|im_end|>\n' }}{%- endfor %}
{{- strftime_now("%Y-%m-%d") }}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant (' + strftime_now('%d %B %Y') + ')\n' }}{%- endif %}"""


def write_dated(messages, writer):
    for m in messages:
        writer.write(f"<|im_start|>{m.role} (26 July 2024)\n")
        writer.write(m.content + "<|im_end|>", trained=m.role == "assistant")
        writer.write("\n")
    writer.write("2024-07-26")


THINKS_FIRST = """
{{- bos_token }}{%- for m in messages %}
{%- if m.role == 'system' %}{{- m.content }}
{%- elif m.role == 'assistant' %}{%- set answer = m.content %}
{%- if '</think>' in answer %}{%- set answer = answer.split('</think>')[-1] %}{%- endif %}
{{- '<|Assistant|>' + answer + '<|end|>' }}
{%- else %}{{- '<|User|>' + m.content }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|Assistant|><think>\n' }}{%- endif %}"""


def write_thinks_first(messages, writer):
    writer.write("<s>")
    for m in messages:
        if m.role == "assistant":
            writer.write("<|Assistant|>")
            answer = m.content.split("</think>")[-1]
            writer.write(answer + "<|end|>", trained=True)
        else:
            writer.write(m.content if m.role == "system" else f"<|User|>{m.content}")


LLAMA_TOKENS = ("<s>", "</s>", "<unk>")
LLAMA3_TOKENS = ("<s>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
R1_TOKENS = ("<s>", "<|User|>", "<|Assistant|>", "<|end|>")
GPT_OSS_TOKENS = ("<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>")
TEMPLATES = {
    "qwen3": (QWEN, write_qwen, CHATML, "<|im_end|>", None),
    "llama2": (LLAMA2, write_llama2, LLAMA_TOKENS, "</s>", "<s>"),
    "mistral": (MISTRAL, write_mistral, LLAMA_TOKENS, "</s>", "<s>"),
    "gemma": (GEMMA, write_gemma, ("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"), "<eos>", "<bos>"),
    "smollm3": (SMOLLM3, write_smollm3, CHATML, "<|im_end|>", None),
    "gpt_oss": (GPT_OSS, write_gpt_oss, GPT_OSS_TOKENS, "<|return|>", "<|endoftext|>"),
    "smollm2": (SMOLLM2, write_smollm2, CHATML, "<|im_end|>", None),
    "qwen2.5": (QWEN25, write_qwen25, CHATML, "<|im_end|>", None),
    "llama3": (LLAMA3, write_llama3, LLAMA3_TOKENS, "<|eot_id|>", "<s>"),
    "strips": (STRIPS, write_strips, CHATML, "<|im_end|>", None),
    "rewraps": (REWRAPS, write_rewraps, CHATML, "<|im_end|>", None),
    "dated": (DATED, write_dated, CHATML, "<|im_end|>", None),
    "thinks_first": (THINKS_FIRST, write_thinks_first, R1_TOKENS, "<|end|>", "<s>"),
}
TAKES_TOOLS = ("smollm2", "qwen2.5", "qwen3", "llama3", "strips", "rewraps", "dated")
"""The templates that render tool results."""
THOUGHT = "<think>\n3 mod 2 is 1.\n</think>\n\n"
REFUSES = ("mistral", "llama2")
"""The templates that refuse a conversation with roles that they do not render; the others would render it wrongly."""


def fixed_dates(jinja):
    """The template with the default date in each call of `strftime_now`."""
    for text, date in [("%d %B %Y", "26 July 2024"), ("%Y-%m-%d", "2024-07-26"), ("%d %b %Y", "26 Jul 2024")]:
        jinja = jinja.replace(f"strftime_now('{text}')", f"'{date}'").replace(f'strftime_now("{text}")', f"'{date}'")
    return jinja


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
    "unicode": conversation("今天 שלום", "👩‍👩‍👧‍👦 ไทย e\u0301", "Où ?", "…—“”", system="你好，世界。"),
    "tools": Conversation(
        (
            Message("system", "You are terse."),
            *(Message("user", "Sum: 1+1"), Message("assistant", '{"add": [1, 1]}'), Message("tool", '{"sum": 2}')),
            *(Message("tool", " ok "), Message("assistant", "two")),
        )
    ),
    "letters of the template": conversation("user", "assistant", "\nassistant", "model [/INST] INST"),
}


@cache
def tokenizer_of(name):
    jinja, _, specials, eos, bos = TEMPLATES[name]
    return byte_level_of(Family(jinja, None, "", specials, eos, bos))


def takes(name, found):
    """Whether a template renders every role of the conversation."""
    roles = {message.role for message in found.messages}
    return (name != "mistral" or "system" not in roles) and (name in TAKES_TOOLS or "tool" not in roles)


def allowed(name):
    return [found for found in CONVERSATIONS.values() if takes(name, found)]


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
