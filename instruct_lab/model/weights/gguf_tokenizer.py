"""A reader of the tokenizer in a GGUF file, with the pre-tokenizer that the file names.

A pre-tokenizer is the rule by which a tokenizer splits text into words.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from instruct_lab.model.weights.library_calls import gguf_errors, without_progress_bars

DIGIT_SPLITTERS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""Names of pre-tokenizers that split off every digit and then split like GPT-2 (llama.cpp, src/llama-vocab.cpp)."""

GPT2_LIKE = frozenset({"gpt-2", "gpt2", "phi-2", "olmo", "mpt", "modern-bert", "jina-es", "jina-de", "gigachat"})
"""Names of pre-tokenizers that split like GPT-2, which transformers also does for every name that it does not know."""

logger = logging.getLogger(__name__)


def read_tokenizer(file: Path, name: str) -> Any:
    """Read the tokenizer from a GGUF file, and set the pre-tokenizer that the file names.

    transformers knows only some of the pre-tokenizers that a file can name, and uses GPT-2's pre-tokenizer otherwise.
    This function adds the pre-tokenizers that split off every digit (`DIGIT_SPLITTERS`), and warns of a name that is
    still unknown.
    """
    from transformers import PreTrainedTokenizerFast

    with gguf_errors(file, name), without_progress_bars():
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(str(file.parent), gguf_file=file.name)
        kind, pre_tokenizer = (_metadata(file, f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind != "gpt2" or pre_tokenizer is None:  # only byte-level vocabularies have several
        return tokenizer
    if pre_tokenizer in DIGIT_SPLITTERS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer_named(pre_tokenizer)
    elif pre_tokenizer not in GPT2_LIKE and not _is_known_to_transformers(pre_tokenizer):
        logger.warning(
            "%s splits text by the pre-tokenizer %r, which is unknown: GPT-2's is used, and some text may be tokenised "
            "differently than in pretraining. Set model.tokenizer.source to the original model's.",
            name,
            pre_tokenizer,
        )
    return tokenizer


def pre_tokenizer_named(name: str) -> Any:
    """Return the pre-tokenizer that GGUF files call `name`, or GPT-2's if the name is unknown.

    It is a pre-tokenizer for byte-level vocabularies.
    """
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    if name in DIGIT_SPLITTERS:
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])
    if name in GGUF_PRE_TOKENIZER_SPLITS:
        split = Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[name]), behavior="isolated")
        return Sequence([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    return ByteLevel(add_prefix_space=False, use_regex=True)


def _metadata(file: Path, key: str) -> str | None:
    from transformers.integrations.gguf.reader import read_gguf_metadata

    value = read_gguf_metadata(str(file))[0].get(key)
    return None if value is None else str(value)


def _is_known_to_transformers(pre_tokenizer: str) -> bool:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return pre_tokenizer in GGUF_PRE_TOKENIZER_SPLITS
