"""Loading of tokenizers from folders, which split and normalise text exactly as the folder's files describe."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError
from instruct_lab.model.weights.library_calls import loading_errors, without_progress_bars

logger = logging.getLogger(__name__)


def folder_tokenizer(folder: Path, name: str, trust_remote_code: bool) -> Any:
    """Load the tokenizer in a folder.

    It splits and normalises text as its `tokenizer.json` describes, even if the tokenizer's class in transformers would
    do so differently. With `trust_remote_code`, it does so as its class determines.

    Raises:
        InstructLabError: the folder has no tokenizer, or it cannot be read.
    """
    from transformers import AutoTokenizer

    with loading_errors(name, "tokenizer"), without_progress_bars():
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    if not tokenizer.get_vocab():
        raise InstructLabError("The tokenizer has no vocabulary", where=name, do="add its tokenizer.json")
    if not trust_remote_code:
        restore_text_processing(tokenizer, folder / "tokenizer.json")
    return rename_tokenizer(tokenizer, name)


def rename_tokenizer(tokenizer: Any, name: str) -> Any:
    """Set the tokenizer's name, and remove settings that show from where it was read."""
    tokenizer.name_or_path = name
    for trace in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(trace, None)
    return tokenizer


def restore_text_processing(tokenizer: Any, file: Path) -> None:
    """Restore normalizer, pre-tokenizer and decoder from `tokenizer.json` if transformers replaced them.

    Some tokenizer classes build these parts themselves and read only the vocabulary and merges from the file. For
    example, SmolLM2's `GPT2Tokenizer` would no longer split digits, so numbers would be tokenised differently than in
    pretraining.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file():
        return
    original = _text_processing(file)
    changed = []
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        ours, theirs = getattr(backend, part), getattr(original, part)
        if _state(ours) != _state(theirs):
            setattr(backend, part, theirs)
            changed.append(part)
    if changed:
        logger.info("%s: %s as in tokenizer.json, not as in the class", type(tokenizer).__name__, ", ".join(changed))


def _text_processing(file: Path) -> Any:
    """Read the tokenizer from a `tokenizer.json`, for its normalizer, pre-tokenizer and decoder.

    The vocabulary of a BPE tokenizer is left out to save time.
    """
    from tokenizers import Tokenizer

    content = json.loads(file.read_text(encoding="utf-8"))
    if content["model"].get("type") != "BPE":
        return Tokenizer.from_file(str(file))
    bare = {**content["model"], "vocab": {}, "merges": [], "unk_token": None}
    return Tokenizer.from_str(json.dumps({**content, "model": bare, "added_tokens": [], "post_processor": None}))


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())
