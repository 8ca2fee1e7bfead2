"""Context managers that control the output, random numbers and errors of calls to transformers."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from instruct_lab.errors import InstructLabError, one_line, wrap_errors
from instruct_lab.optional_packages import install_command_in


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Switch off the progress bars of transformers within the block."""
    from transformers.utils import logging as transformers_logging

    was_enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def without_load_report() -> Iterator[None]:
    """Switch off transformers' report of missing and unexpected tensors; the caller has to refuse missing tensors."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


@contextlib.contextmanager
def own_seed(seed: int) -> Iterator[None]:
    """Seed the CPU's random generator for the block, and restore its state on exit; GPU generators are not changed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU as well
        yield


@contextlib.contextmanager
def loading_errors(name: str, part: str = "model") -> Iterator[None]:
    """Turn errors that are raised while a model is read into an `InstructLabError` with advice on how to fix them.

    Args:
        name: name of the model in error messages.
        part: what is read, for the message: `model` or `tokenizer`.

    Raises:
        InstructLabError: the block raised an exception.
    """
    try:
        yield
    except InstructLabError:
        raise
    except Exception as error:
        raise InstructLabError(
            f"The {part} cannot be loaded ({one_line(error, 400)})", where=name, do=_next_step(error)
        ) from error


def _next_step(error: Exception) -> str:
    message = str(error)
    if isinstance(error, OSError) and error.errno == errno.EACCES:
        return "correct the file's permissions"
    if isinstance(error, ImportError):
        return install_command_in(message) or "install the package that is named, or choose another option"
    if "attn_implementation" in message:
        return "set model.attention=eager"
    if "trust_remote_code" in message:
        return "read the Python files that come with it; if you trust them, set model.trust_remote_code=true"
    if any(sign in message for sign in ("model_type", "architecture", "Unrecognized")):
        return "choose a model of this family, or a newer transformers that knows its architecture"
    return "copy or download all its files again, or choose another model"


def gguf_errors(file: Path, name: str) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that turns errors while a GGUF file is read into an `InstructLabError`."""
    return wrap_errors(
        what=f"{name} cannot be read as a GGUF model",
        where=str(file),
        do="copy or download the file again, or choose an architecture and quantisation that transformers reads",
    )
