"""A GGUF file as a plain model folder."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock

from instruct_lab.errors import InstructLabError
from instruct_lab.model.weights import file_input

CONVERSION = "1"
"""Raised when the conversion changes, so that folders of an earlier one are not taken."""

DONE = "converted.json"


def converted(file: Path, cache_path: Path) -> Path:
    """The folder of the converted file, made unless the cache has it whole.

    Raises:
        InstructLabError: the file is no GGUF file that transformers can read, or the cache cannot be written.
    """
    sha256 = file_input(file, file.name).sha256
    models = cache_path / "models"
    folder = models / f"{sha256[:32]}-{CONVERSION}"
    if (folder / DONE).is_file():
        return folder
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f"{folder.name}.lock"):
            if (folder / DONE).is_file():
                return folder
            shutil.rmtree(folder, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=models, prefix=f".{folder.name}-") as partial:
                target = Path(partial) / "model"
                _convert(file, target)
                (target / DONE).write_text(f'{{"sha256": "{sha256}"}}', encoding="utf-8")
                os.replace(target, folder)
    except OSError as error:
        raise InstructLabError(
            f"The converted model cannot be kept: {error}",
            where=str(models),
            do="free disk space (it takes 4 bytes a parameter), or choose another cache_path",
        ) from error
    return folder


def _convert(file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = gguf_tokenizer(file)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype=torch.float32
            )
    except (ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise InstructLabError(
            f"transformers cannot read this GGUF file: {str(error).splitlines()[0]}",
            where=str(file),
            do="choose a file of an architecture and quantisation that transformers de-quantises",
        ) from error
    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)


def gguf_tokenizer(file: Path) -> Any:
    """The tokenizer inside a GGUF file, its pre-tokenizer mended.

    transformers' converter drops the pre-tokenizer that the file names; `smollm` splits every digit from the next.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoTokenizer

    with contextlib.redirect_stderr(io.StringIO()):
        tokenizer: Any = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    if _named_pre_tokenizer(file) == "smollm":
        steps = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(steps)
    return tokenizer


def _named_pre_tokenizer(file: Path) -> str | None:
    from gguf import GGUFReader

    field = GGUFReader(str(file)).get_field("tokenizer.ggml.pre")
    return None if field is None else str(field.contents())
