"""Models and tokenizers from folders, with what transformers gets wrong put right or refused."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.model._folder import weight_files
from instruct_lab.model.weights import Loading

logger = logging.getLogger(__name__)


def folder_model(folder: Path, name: str, loading: Loading) -> Any:
    """The model in a folder, every one of its tensors read from there.

    Args:
        folder: as `save_pretrained` writes it.
        name: what the user calls it; an exported model or adapter names it as its base.
        loading: types and permissions.

    Raises:
        InstructLabError: the weights are missing, pickled, damaged or incomplete, or the architecture is unknown.
    """
    import torch
    import transformers

    pickled = weight_files(folder, name, loading.allow_pickle)[0].suffix != ".safetensors"
    gives_score = loading.auto_class == "AutoModelForSequenceClassification"
    with told(name), quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a head that is new is drawn alike in every run
        model, found = getattr(transformers, loading.auto_class).from_pretrained(
            str(folder),
            dtype=getattr(torch, loading.dtype),
            attn_implementation=loading.attention,
            use_safetensors=not pickled,
            trust_remote_code=loading.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **({"num_labels": 1} if gives_score else {}),
        )
    missing = sorted(found["missing_keys"])
    if gives_score:
        from instruct_lab.model.families import score_modules

        new = tuple(f".{module}." for module in score_modules(model))
        missing = [key for key in missing if not any(module in f".{key}" for module in new)]
    if missing:  # transformers draws them at random
        raise InstructLabError(
            f"The weights lack {len(missing)} of the model's tensors, such as {missing[0]}",
            where=name,
            do=f"bring the whole model, or one that {loading.auto_class} loads without new parameters",
        )
    model.config._name_or_path = name
    model.name_or_path = name
    return model


def folder_tokenizer(folder: Path, name: str, trust_remote_code: bool) -> Any:
    """The tokenizer in a folder, as its `tokenizer.json` says.

    Raises:
        InstructLabError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    with told(name, "tokenizer"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    if not tokenizer.get_vocab():
        raise InstructLabError("The tokenizer has no vocabulary", where=name, do="bring its tokenizer.json too")
    if not trust_remote_code:
        restore_text_processing(tokenizer, folder / "tokenizer.json")
    return named(tokenizer, name)


def named(tokenizer: Any, name: str) -> Any:
    """The tokenizer under the name that the user knows, without traces of where it was read."""
    tokenizer.name_or_path = name
    for trace in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(trace, None)
    return tokenizer


def restore_text_processing(tokenizer: Any, file: Path) -> None:
    """Take normalizer, pre-tokenizer and decoder from `tokenizer.json`, where transformers made up its own.

    A tokenizer class with a constructor of its own builds these anew and keeps the file's vocabulary and merges alone.
    So SmolLM2's GPT2Tokenizer would no longer split digits, and text with numbers would be tokenised otherwise than in
    pretraining.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return
    meant = _text_processing(file)
    changed = []
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        ours, theirs = getattr(backend, part), getattr(meant, part)
        if _state(ours) != _state(theirs):
            setattr(backend, part, theirs)
            changed.append(part)
    if changed:
        logger.info("%s: %s as in tokenizer.json, not as in the class", type(tokenizer).__name__, ", ".join(changed))


def _text_processing(file: Path) -> Any:
    """The tokenizer of a `tokenizer.json`; where that is quick, without its vocabulary."""
    from tokenizers import Tokenizer

    content = json.loads(file.read_text(encoding="utf-8"))
    if content["model"].get("type") != "BPE":
        return Tokenizer.from_file(str(file))
    bare = {**content["model"], "vocab": {}, "merges": [], "unk_token": None}
    return Tokenizer.from_str(json.dumps({**content, "model": bare, "added_tokens": [], "post_processor": None}))


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


def plain_generation_config(model: Any, tokenizer: Any) -> Any:
    """What ends an answer and what pads, and none of the checkpoint's own temperature, top_p or length."""
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    ends = own.eos_token_id if own is not None and own.eos_token_id is not None else tokenizer.eos_token_id
    return GenerationConfig(bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars from transformers."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def told(name: str, part: str = "model") -> Iterator[None]:
    """What goes wrong while a model is read, as one paragraph."""
    try:
        yield
    except InstructLabError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        what = f"The {part} cannot be loaded ({reason})"
        if isinstance(error, OSError) and error.errno == errno.EACCES:
            do = "mend the file's permissions"
        elif isinstance(error, ImportError):
            do = "install what is named, or choose another option"
        elif "attn_implementation" in reason:
            do = "set model.attention=eager"
        elif "trust_remote_code" in reason:
            do = "read the Python files that come with it; if you trust them, set model.trust_remote_code=true"
        elif "model_type" in reason or "architecture" in reason or "Unrecognized" in reason:
            do = "choose a model of this family, or a newer transformers that knows its architecture"
        else:
            do = "bring its files again, whole, or choose another model"
        raise InstructLabError(what, where=name, do=do) from error
