"""Small tokenizers with the chat templates of well-known families, and the same templates in plain Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from instruct_lab.data import Conversation, Message

CODE = "def add(a, b):\n    return a + b\n\nclass A:\n\tpass"
TEXTS = [
    "Hello",
    "How are you today?",
    "I am well, thank you.",
    "Translate to French: I love NLP.",
    "J'aime le TAL.",
    "Où êtes-vous ? À côté du café.",
    "Ich heiße Jürgen und wohne in Köln.",
    "你好，世界。",
    "请把这句话翻译成英文：今天天气很好。",
    "The weather is nice today.",
    "😀 great 👍🏽",
    "👩‍👩‍👧‍👦 family",
    CODE,
    "    x = 1",
    "\nStarts on a new line",
    " a leading space",
    "\n\n\ttabbed",
    "ends with space ",
    "ends with newline\n",
    "\n",
    " ",
    "1234567890 + 42 = ?",
    "3.14159",
    "a",
    "user",
    "assistant\nsystem",
    "| col | col |\n|---|---|\n| 1 | 2 |",
    "line one\nline two\n\nline four",
    "שלום",
    "مرحبا بالعالم",
    "ไทย",
    "e\u0301 is not é",
    "zero\u200bwidth",
    "<b>bold</b> & \"quotes\" 'too'",
    "{{ jinja }} {% raw %}",
    "C:\\path\\to",
    "…—“”",
    "You are terse.",
    "You are a pirate.",
    "Sum: 1+1",
    "two",
]


def conversation(*turns: str, system: str | None = None, name: str = "") -> Conversation:
    """User and assistant alternate, after a system message if one is given."""
    messages = [Message("system", system)] if system is not None else []
    for index, text in enumerate(turns):
        messages.append(Message("user" if index % 2 == 0 else "assistant", text))
    return Conversation(tuple(messages), id=name)


PLAIN = [
    conversation("Hello", "How are you today?"),
    conversation("Hello", "I am well, thank you.", system="You are terse."),
    conversation("Translate to French: I love NLP.", "J'aime le TAL."),
    conversation("Ich heiße Jürgen und wohne in Köln.", "Où êtes-vous ? À côté du café."),
    conversation("请把这句话翻译成英文：今天天气很好。", "The weather is nice today."),
    conversation("The weather is nice today.", "今天天气很好。", system="请"),
    conversation("你好，世界。", "你好，世界。", "今天", "天气很好"),
    conversation("😀 great 👍🏽", "👩‍👩‍👧‍👦 family"),
    conversation("👩‍👩‍👧‍👦 family", "😀", "👍🏽", "😀 great 👍🏽", system="You are a pirate."),
    conversation("Sum: 1+1", CODE),
    conversation(CODE, CODE, CODE, "two"),
    conversation("1234567890 + 42 = ?", "3.14159"),
    conversation("a", "a"),
    conversation("a", "a", "a", "a", "a", "a"),
    conversation("user", "assistant\nsystem", "assistant\nsystem", "user"),
    conversation("| col | col |\n|---|---|\n| 1 | 2 |", "| col | col |\n|---|---|\n| 1 | 2 |"),
    conversation("line one\nline two\n\nline four", "line one\nline two\n\nline four"),
    conversation("שלום", "مرحبا بالعالم"),
    conversation("ไทย", "e\u0301 is not é"),
    conversation("zero\u200bwidth", "zero\u200bwidth"),
    conversation("<b>bold</b> & \"quotes\" 'too'", "{{ jinja }} {% raw %}"),
    conversation("{{ jinja }} {% raw %}", "C:\\path\\to", "…—“”", "…—“”"),
    conversation("Hello", ""),
    conversation("", "Hello"),
    conversation("", ""),
    conversation("Hello", "", "Hello", "two", system=""),
    conversation("    x = 1", "two"),
    conversation("\nStarts on a new line", "two"),
    conversation(" a leading space", "two", "\n\n\ttabbed", "two"),
    conversation("ends with space ", "ends with space "),
    conversation("ends with newline\n", "ends with newline\n", "\n", "two"),
    conversation(" ", "two", system="\n"),
    conversation("Hello", "How are you today?", "I am well, thank you."),
]
"""No token of the whole text crosses the start of an answer."""

INDENTED = [
    conversation("Sum: 1+1", "    x = 1"),
    conversation("Hello", "\nStarts on a new line"),
    conversation("Hello", " a leading space", "a", "\n\n\ttabbed", system="You are terse."),
    conversation("Hello", "\n", "a", " ", "a", "two"),
]
"""Tokens of the whole text may cross the start of an answer."""


@dataclasses.dataclass(frozen=True)
class Family:
    """A chat template in Jinja, and in Python: the text, and the span of each message's content."""

    jinja: str
    write: Callable[[Sequence[Message]], tuple[str, list[tuple[int, int]]]]
    end_of_turn: str
    specials: tuple[Any, ...]
    eos: str
    bos: str | None = None
    adds_bos: bool = False
    pattern: str | None = None  # of the pre-tokenizer; None: that of GPT-2
    has_system: bool = True


def writer(
    opening: str, header: Callable[[str], str], closing: str, *, trims: bool = False, default_system: str | None = None
) -> Callable[[Sequence[Message]], tuple[str, list[tuple[int, int]]]]:
    """A template of an opening, then the header, content and closing of each message."""

    def write(messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
        text, spans = opening, []
        if default_system is not None and messages[0].role != "system":
            text += header("system") + default_system + closing
        for message in messages:
            text += header(message.role)
            content = message.content.strip() if trims else message.content
            spans.append((len(text), len(text) + len(content)))
            text += content + closing
        return text, spans

    return write


NEWLINES_TOGETHER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
FAMILIES = {
    "chatml": Family(
        jinja="{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are terse.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        write=writer("", lambda role: f"<|im_start|>{role}\n", "<|im_end|>\n", default_system="You are terse."),
        end_of_turn="<|im_end|>",
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
        bos="<|im_start|>",
    ),
    "llama3": Family(
        jinja="{{- bos_token }}{% for message in messages %}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
        "{{- message['content'] | trim + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        write=writer(
            "<|begin_of_text|>",
            lambda role: f"<|start_header_id|>{role}<|end_header_id|>\n\n",
            "<|eot_id|>",
            trims=True,
        ),
        end_of_turn="<|eot_id|>",
        specials=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|end_of_text|>",
        bos="<|begin_of_text|>",
        adds_bos=True,
        pattern=NEWLINES_TOGETHER,
    ),
    "gemma": Family(
        jinja="{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
        "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
        write=writer(
            "<bos>",
            lambda role: f"<start_of_turn>{'model' if role == 'assistant' else role}\n",
            "<end_of_turn>\n",
            trims=True,
        ),
        end_of_turn="<end_of_turn>",
        specials=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        bos="<bos>",
        adds_bos=True,
        has_system=False,
    ),
    "qwen": Family(
        jinja="{% for message in messages %}{% if message.role == 'assistant' %}"
        "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content + '<|im_end|>\n' }}"
        "{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}"
        "{% endfor %}",
        write=writer(
            "",
            lambda role: f"<|im_start|>{role}\n" + ("<think>\n\n</think>\n\n" if role == "assistant" else ""),
            "<|im_end|>\n",
        ),
        end_of_turn="<|im_end|>",
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
        pattern=NEWLINES_TOGETHER,
    ),
    "phi": Family(
        jinja="{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}"
        "{% endfor %}",
        write=writer("", lambda role: f"<|{role}|>\n", "<|end|>\n"),
        end_of_turn="<|end|>",
        specials=(
            "<|endoftext|>",
            *(AddedToken(text, rstrip=True, special=True) for text in ("<|user|>", "<|assistant|>", "<|end|>")),
            AddedToken("<|system|>", rstrip=True, special=True),
        ),
        eos="<|endoftext|>",
    ),
}
ALL = [*PLAIN, *INDENTED]


def allowed(family: Family, conversations: Sequence[Conversation]) -> list[Conversation]:
    """The conversations that a family's template can render."""
    return [
        found
        for found in conversations
        if family.has_system or all(message.role != "system" for message in found.messages)
    ]


@cache
def byte_level(name: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE with a family's chat template."""
    return byte_level_of(FAMILIES[name])


def byte_level_of(family: Family) -> PreTrainedTokenizerFast:
    """The same for a family that is not one of `FAMILIES`."""
    backend = Tokenizer(models.BPE())
    if family.pattern is None:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(family.pattern), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=list(family.specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(
        [*TEXTS, *TEXTS, "system user assistant model\n\n\n", "<think>\n\n</think>\n\n"], trainer
    )
    if family.adds_bos:
        number = backend.token_to_id(family.bos)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", pair=f"{family.bos} $A {family.bos} $B", special_tokens=[(family.bos, number)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=family.bos, eos_token=family.eos, pad_token=family.eos
    )
    tokenizer.chat_template = family.jinja
    return tokenizer


ZEPHYR = (
    "{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + eos_token + '\n' }}{% endfor %}"
)


@cache
def unigram(prepend_scheme: str) -> PreTrainedTokenizerFast:
    """A Unigram model over words marked by ▁, as in sentencepiece, which adds BOS; `</s>` is in its vocabulary."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)
    backend.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=500,
        special_tokens=["<s>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
        initial_alphabet=sorted({*"".join(TEXTS), *"<|>/\n", *"systemuserassistant今天天气很好请"}),
    )
    backend.train_from_iterator([*TEXTS, *TEXTS, "<|user|>\n<|assistant|>\n<|system|>\n"], trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.chat_template = ZEPHYR
    return tokenizer


def messages_of(found: Conversation) -> list[dict[str, str]]:
    """The messages as dictionaries for `apply_chat_template`."""
    return [{"role": message.role, "content": message.content} for message in found.messages]
