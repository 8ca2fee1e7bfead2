"""The vocabulary of a GGUF file: tokens and their types, BPE merges, pre-tokenizer and special tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instruct_lab.export.gguf.architecture import refusal
from instruct_lab.model.weights.gguf_tokenizer import pre_tokenizer_named, read_tokenizer

WHERE = "the tokenizer"
NAMES = ("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o", "qwen35")
"""Names of llama.cpp's pre-tokenizers; a GGUF file names the first one that splits texts like the model's tokenizer."""
PROBES = (
    "Hello, world! It's 3 o'clock; we'll pay 1234567.89 € for 12 x 34 apples.",
    "don't DON'T I'M you'VE they're she'd  two  spaces\tand a tab\n\nnew\r\n   lines \n trailing   ",
    "Größe Ελλάδα русский язык 日本語のテキスト 中文 한국어 ภาษาไทย हिन्दी العربية ១២៣ ½ ² ٣٤",
    "🚀 (normal) 👨‍👩‍👧 ✅🏽 def f(x_1): return {'a': [1, 2.50]}  # ===> ///\\\\ !!??..... ''''\"\"\" `x` ------",
    "HTTPServer camelCase snake_case A1b2C3 x=3.14e-10 https://example.org/a?b=c&d=%20 \u00a0\u3000\u200b end",
)
"""Sample texts, with which pre-tokenizers are compared: unlike pre-tokenizers split them differently."""


def add_vocabulary(writer: Any, tokenizer: Any, vocab_size: int, stop_token_ids: Sequence[int]) -> None:
    """Add the vocabulary, the special tokens and the chat template to a GGUF file.

    Args:
        writer: the `GGUFWriter` of the file.
        tokenizer: the model's tokenizer; its chat template is written if it has one.
        vocab_size: number of rows of the model's embedding matrix.
        stop_token_ids: tokens that end an answer.

    Raises:
        InstructLabError: the tokenizer is not byte-level BPE, has no merges, has more tokens than the embedding matrix
            has rows, or splits texts like no pre-tokenizer of llama.cpp.
    """
    import gguf

    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    pairs = backend["model"].get("merges")
    if backend["model"].get("type") != "BPE" or (backend.get("decoder") or {}).get("type") != "ByteLevel":
        raise refusal("its tokenizer is not byte-level BPE, the only kind that is written here", WHERE)
    if not pairs:
        raise refusal("its tokenizer has no merges, which llama.cpp needs", WHERE)
    tokens, kinds = _tokens(tokenizer, vocab_size, gguf.TokenType)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(find_pre_tokenizer(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in pairs])
    bos, eos, pad, unknown = (getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk"))
    stops = list(stop_token_ids)
    eos = eos if eos in stops or not stops else stops[0]
    end_of_turn = next((stop for stop in stops if stop != eos), None)
    for add, token_id in (
        (writer.add_bos_token_id, bos),
        (writer.add_eos_token_id, eos),
        (writer.add_pad_token_id, pad),
        (writer.add_unk_token_id, unknown),
        (writer.add_eot_token_id, end_of_turn),
    ):
        if token_id is not None:
            add(token_id)
    writer.add_add_bos_token(adds_bos(tokenizer))
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts the beginning-of-sequence token before each text."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("a")["input_ids"][:1] == [bos]


def find_pre_tokenizer(tokenizer: Any) -> str:
    """Return the name of the pre-tokenizer of llama.cpp that splits texts as the given tokenizer does.

    Raises:
        InstructLabError: no pre-tokenizer splits texts in the same way, or llama.cpp does not support the tokenizer's
            normalizer.
    """
    backend = tokenizer.backend_tokenizer
    normalizer = json.loads(backend.to_str()).get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise refusal(f"its tokenizer changes texts by {normalizer.get('type')}, which llama.cpp does not", WHERE)
    expected = [backend.pre_tokenizer.pre_tokenize_str(text) for text in PROBES]
    for name in NAMES:
        if [pre_tokenizer_named(name).pre_tokenize_str(text) for text in PROBES] == expected:
            return name
    raise refusal(f"its tokenizer splits texts like none of {', '.join(NAMES)}", WHERE)


def check_vocabulary(file: Path, tokenizer: Any) -> None:
    """Check that the tokenizer in a GGUF file, as transformers reads it, encodes texts like the model's tokenizer.

    Raises:
        InstructLabError: the two tokenizers encode a text differently.
    """
    read = read_tokenizer(file, file.name)
    special = [token for token in tokenizer.all_special_tokens if token in tokenizer.get_vocab()]
    for text in (*PROBES, "".join(special), *(f"a{token}b" for token in tokenizer.get_added_vocab())):
        before, after = (one(text, add_special_tokens=False)["input_ids"] for one in (tokenizer, read))
        if before != after:
            raise refusal(f"its tokenizer would encode {text[:60]!r} differently", WHERE)


def _tokens(tokenizer: Any, vocab_size: int, kinds: Any) -> tuple[list[str], list[int]]:
    """Return the texts and the types of all tokens, in the order of their ids.

    An id for which the tokenizer has no token gets a made-up text and the type `UNUSED`.

    Args:
        tokenizer: the tokenizer.
        vocab_size: number of rows of the model's embedding matrix, which is the number of ids.
        kinds: the enumeration `gguf.TokenType`.
    """
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    if by_id and max(by_id) >= vocab_size:
        raise refusal(f"its tokenizer has {max(by_id) + 1} tokens, and its embeddings have {vocab_size} rows", WHERE)
    tokens, found = [], []
    for number in range(vocab_size):
        token = by_id.get(number)
        if token is None:
            tokens.append(f"[PAD{number}]")
            found.append(kinds.UNUSED)
            continue
        tokens.append(token)
        if number not in added:
            found.append(kinds.NORMAL)
        elif added[number].special or (token.startswith("<|") and token.endswith("|>")):
            found.append(kinds.CONTROL)
        else:
            found.append(kinds.USER_DEFINED)
    return tokens, found
