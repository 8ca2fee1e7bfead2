"""Random weights, and a tokenizer made of the 256 bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from instruct_lab.config.spelling import nearest
from instruct_lab.errors import InstructLabError
from instruct_lab.model.score import score_modules
from instruct_lab.model.weights._loading import fit_config, folder_model, quiet, seeded
from instruct_lab.model.weights.base import Loading

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


ENCODER_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ENCODER_DECODER_TOKENS = ("<pad>", "</s>", "<mask>", *(f"<extra_id_{number}>" for number in range(100)))


def special_tokens_of(family: str) -> tuple[str, ...]:
    """The special tokens of a random model: ChatML's, BERT's, or T5's and BART's together."""
    known = {"decoder": SPECIAL_TOKENS, "encoder": ENCODER_TOKENS, "encoder-decoder": ENCODER_DECODER_TOKENS}
    return known[family]


def byte_tokenizer(family: str = "decoder") -> Any:
    """A byte-level tokenizer with the family's special tokens: a text is its UTF-8 bytes, so nothing is unknown."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())  # one printable letter for each of the 256 bytes
    backend = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokens = special_tokens_of(family)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return finished(backend, family)


def finished(backend: Any, family: str) -> Any:
    """A tokenizer of transformers around a byte-level one, which puts the family's special tokens around a text."""
    from tokenizers import decoders, processors
    from transformers import PreTrainedTokenizerFast

    backend.decoder = decoders.ByteLevel()
    around = {"encoder": ("[CLS] $A [SEP]", ("[CLS]", "[SEP]")), "encoder-decoder": ("$A </s>", ("</s>",))}
    if family in around:
        single, tokens = around[family]
        ids = [(token, backend.token_to_id(token)) for token in tokens]
        backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    names: dict[str, dict[str, Any]] = {
        "decoder": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        "encoder": {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        "encoder-decoder": {
            "pad_token": "<pad>",
            "eos_token": "</s>",
            "mask_token": "<mask>",
            "additional_special_tokens": list(ENCODER_DECODER_TOKENS[3:]),
        },
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **names[family])
    if family == "decoder":
        tokenizer.chat_template = CHATML
    return tokenizer


def random_model(
    architecture: str, settings: dict[str, Any], seed: int, loading: Loading, tokenizer: Any
) -> tuple[Any, tuple[str, ...]]:
    """A model drawn from the seed and the names of its new modules; the caller's random states stay as they are.

    Raises:
        InstructLabError: transformers has no such architecture, or its configuration no such field or value.
    """
    import torch
    import transformers

    config = _config(architecture, settings, tokenizer)
    fit_config(config, loading, architecture)
    auto = getattr(transformers, loading.auto_class)
    try:
        with seeded(seed):
            model = auto.from_config(config, dtype=torch.float32, attn_implementation=loading.attention)
    except (ValueError, TypeError, RuntimeError, ImportError, ZeroDivisionError) as error:
        do = f"make them fit one another and {loading.auto_class}; given: {json.dumps(settings)}"
        raise InstructLabError(
            f"No model can be built from these settings: {' '.join(str(error).split())[:300]}",
            where="model.weights.settings",
            do="set model.attention=eager" if "attn_implementation" in str(error) else do,
        ) from error
    if loading.quantization is not None:  # transformers quantises what it reads from a folder
        with tempfile.TemporaryDirectory() as folder:
            with quiet():
                model.save_pretrained(folder)
            model, _ = folder_model(Path(folder), f"random {architecture}", loading)
            model.config._name_or_path = model.name_or_path = ""
    else:
        model = model.to(getattr(torch, loading.dtype))
    return model, score_modules(model) if loading.gives_score else ()


def _config(architecture: str, settings: dict[str, Any], tokenizer: Any) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    if architecture not in CONFIG_MAPPING:
        close = nearest(architecture, CONFIG_MAPPING)
        do = f"did you mean {close}?" if close else "name one, such as llama, qwen3 or gemma3_text"
        raise InstructLabError(
            f"transformers has no architecture {architecture!r}", where="model.weights.architecture", do=do
        )
    known = AutoConfig.for_model(architecture).to_dict()
    for name in settings:
        if name not in known:  # transformers would keep it and do nothing with it
            close = nearest(name, known)
            do = f"did you mean {close}?" if close else f"name a field of the configuration of {architecture}"
            raise InstructLabError(
                f"The configuration of {architecture} has no field {name}", where="model.weights.settings", do=do
            )
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    added = set(getattr(tokenizer, "added_token_ids", ()))  # get their rows as in any other model
    size = {"vocab_size": max(number for number in tokenizer.get_vocab().values() if number not in added) + 1}
    start = {}
    if "decoder_start_token_id" in known or known.get("is_encoder_decoder"):
        start = {"decoder_start_token_id": tokenizer.pad_token_id, "forced_eos_token_id": None}
    try:
        pads = {"pad_token_id": tokenizer.pad_token_id if start else None}
        return AutoConfig.for_model(architecture, **{**size, **tokens, **start, **pads, **settings})
    except Exception as error:  # transformers' own validation errors
        raise InstructLabError(
            f"The configuration of {architecture} refuses these settings: {' '.join(str(error).split())[:300]}",
            where="model.weights.settings",
            do="correct the value that is named",
        ) from error
