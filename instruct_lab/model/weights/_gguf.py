"""A GGUF file as a plain model folder, converted once."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.model.weights._cache import made_once
from instruct_lab.model.weights._loading import folder_model, folder_tokenizer, named, quiet
from instruct_lab.model.weights.base import Loading

CONVERSION = 1
"""Raised when the conversion changes, so that folders of an earlier one are not taken."""

DIGIT_SPLITTERS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"})
"""Pre-tokenizers that split every digit, then as GPT-2 does (llama.cpp, src/llama-vocab.cpp)."""

GPT2_LIKE = frozenset({"gpt-2", "gpt2", "phi-2", "olmo", "mpt", "modern-bert", "jina-es", "jina-de", "gigachat"})
"""Pre-tokenizers that are GPT-2's own, which is what transformers takes for any that it does not know."""

logger = logging.getLogger(__name__)


def gguf_tokenizer(file: Path, name: str, sha256: str, cache_path: Path) -> Any:
    """The tokenizer in a GGUF file, from the cache where it was converted before.

    Args:
        file: the GGUF file.
        name: what the user calls it.
        sha256: of the file; names the converted folder.
        cache_path: folder of converted models.

    Raises:
        InstructLabError: transformers cannot read the file.
    """
    folder = _kept(_folder(cache_path, sha256, "tokenizer"), lambda target: _convert_tokenizer(file, name, target))
    return folder_tokenizer(folder, name, False) if folder is not None else named(read_tokenizer(file, name), name)


def gguf_model(file: Path, name: str, sha256: str, loading: Loading, cache_path: Path) -> tuple[Any, tuple[str, ...]]:
    """The de-quantised model of a GGUF file, from the cache if it was converted before, and names of its new modules.

    Raises:
        InstructLabError: transformers cannot read the file.
    """
    folder = _kept(_folder(cache_path, sha256, "weights"), lambda target: _convert_weights(file, name, target))
    if folder is not None:
        return folder_model(folder, name, loading)
    if loading.gives_score or loading.rope_scaling is not None or loading.quantization is not None:
        raise InstructLabError(
            "The converted model has to be kept for a score, for scaled positions and for quantisation, and cannot be",
            where=str(cache_path),
            do="free some space, or choose another cache_path",
        )
    import torch

    model = read_model(file, name)
    model.set_attn_implementation(loading.attention)
    model.config._name_or_path = name
    model.name_or_path = name
    return model.to(getattr(torch, loading.dtype)), ()


def read_tokenizer(file: Path, name: str) -> Any:
    """The tokenizer straight from a GGUF file, its pre-tokenizer mended.

    transformers' converter knows some of the pre-tokenizers that a file can name and takes GPT-2's for all others.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import PreTrainedTokenizerFast

    with _told(file, name), quiet():
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(str(file.parent), gguf_file=file.name)
        kind, pre_tokenizer = (_metadata(file, f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if kind != "gpt2" or pre_tokenizer is None:  # only byte-level vocabularies have a choice
        return tokenizer
    if pre_tokenizer in DIGIT_SPLITTERS:
        steps = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(steps)
    elif pre_tokenizer not in GPT2_LIKE and not _known_to_transformers(pre_tokenizer):
        logger.warning(
            "%s splits text by the pre-tokenizer %r, which is not known here: GPT-2's is taken, and some text may be "
            "tokenised otherwise than in pretraining. Set model.tokenizer.source to the original model's.",
            name,
            pre_tokenizer,
        )
    return tokenizer


def read_model(file: Path, name: str) -> Any:
    """The language model straight from a GGUF file, de-quantised to float32."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    with _told(file, name), quiet(), contextlib.redirect_stderr(io.StringIO()):  # a bar that cannot be switched off
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=transformers.GgufConfig(dequantize=True),
        )
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # `save_pretrained` would refuse the model as a quantised one
    state = loaded.state_dict()
    with torch.random.fork_rng(devices=[]):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(state, assign=True)
    plain.tie_weights()
    return plain


def _folder(cache_path: Path, sha256: str, part: str) -> Path:
    return cache_path / "models" / f"{sha256}-v{CONVERSION}" / part


def _kept(folder: Path, convert: Callable[[Path], None]) -> Path | None:
    """The converted folder; none, with a warning, where the disk does not take it."""
    from safetensors import SafetensorError

    try:
        return made_once(folder, convert)
    except (OSError, SafetensorError) as error:  # safetensors tells a full disk in its own way
        logger.warning(
            "The converted model cannot be kept (%s), so it is converted at every load. Free some space, or choose "
            "another cache_path. Where: %s",
            " ".join(str(error).split())[:200],
            folder,
        )
        return None


def _convert_tokenizer(file: Path, name: str, target: Path) -> None:
    tokenizer = named(read_tokenizer(file, name), name)
    tokenizer.save_pretrained(target)


def _convert_weights(file: Path, name: str, target: Path) -> None:
    """Write a folder that gives the same weights, bit for bit; reading it back makes sure of that."""
    import torch

    model = read_model(file, name)
    with quiet():
        model.save_pretrained(target)
    plain = Loading(family="decoder", auto_class="AutoModelForCausalLM")
    kept = folder_model(target, name, plain)[0].state_dict()
    for tensor_name, tensor in model.state_dict().items():
        if not torch.equal(tensor, kept[tensor_name]):
            raise OSError(f"{tensor_name} reads back otherwise than it was written")


@contextlib.contextmanager
def _told(file: Path, name: str) -> Any:
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InstructLabError(
            f"{name} cannot be read as a GGUF model ({reason})",
            where=str(file),
            do="bring the file again, or choose one of an architecture and a quantisation that transformers reads",
        ) from error


def _metadata(file: Path, key: str) -> str | None:
    from transformers.integrations.gguf.reader import read_gguf_metadata

    value = read_gguf_metadata(str(file))[0].get(key)
    return None if value is None else str(value)


def _known_to_transformers(pre_tokenizer: str) -> bool:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    return pre_tokenizer in GGUF_PRE_TOKENIZER_SPLITS
