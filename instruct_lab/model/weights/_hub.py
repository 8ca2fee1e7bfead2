"""Model repositories of the Hugging Face Hub as folders of this machine."""

from __future__ import annotations

import contextlib
import errno
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from instruct_lab.assets import Input, file_input
from instruct_lab.errors import InstructLabError

SETTINGS = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "merges.txt", "vocab.*"]
SAFE = ["*.safetensors"]
PICKLED = ["*.bin", "*.pt", "*.pth"]
LEFT_OUT = ["*/*", "consolidated*", "adapter_*", "training_args.bin", "optimizer.*"]
"""Copies of the same weights in other formats, and what is not the model."""


def tokenizer_folder(repository: str, revision: str, trust_remote_code: bool) -> Path:
    """The repository's configuration and tokenizer files, as a folder named by the commit."""
    return _snapshot(repository, revision, SETTINGS + (["*.py"] if trust_remote_code else []))


def model_folder(repository: str, revision: str, allow_pickle: bool, trust_remote_code: bool) -> Path:
    """The repository's configuration and weights; pickled ones only where they are allowed and there are no others."""
    patterns = SETTINGS + SAFE + (["*.py"] if trust_remote_code else [])
    folder = _snapshot(repository, revision, patterns)
    if allow_pickle and not any(folder.glob("*.safetensors")):
        folder = _snapshot(repository, revision, patterns + PICKLED)
    elif not any(folder.glob("*.safetensors")):
        _refuse_pickled(repository, revision)
    return folder


def file_of(repository: str, revision: str, name: str) -> Path:
    """One file of the repository."""
    import huggingface_hub

    with _told(repository, revision):
        return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))


def hub_input(file: Path, name: str) -> Input:
    """A file of the Hub's cache, whose large files are kept under their SHA-256."""
    blob = file.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return Input(name, blob.name, blob.stat().st_size)
    return file_input(file, name)


def _snapshot(repository: str, revision: str, patterns: list[str]) -> Path:
    import huggingface_hub

    with _told(repository, revision):
        folder: str = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=patterns, ignore_patterns=LEFT_OUT
        )
    return Path(folder)


def _refuse_pickled(repository: str, revision: str) -> None:
    """Tell pickled weights, which were not downloaded, from none at all, as far as the Hub can be asked."""
    import huggingface_hub

    try:
        names = huggingface_hub.list_repo_files(repository, revision=revision)
    except (OSError, ValueError):
        return
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth")) and "/" not in name]
    if pickled:
        raise InstructLabError(
            f"The weights are pickled ({pickled[0]}), and unpickling can run any code",
            where=f"{repository}, revision {revision}",
            do="choose a repository with safetensors; or, if you trust its makers, set model.allow_pickle=true",
        )


@contextlib.contextmanager
def _told(repository: str, revision: str) -> Iterator[None]:
    """What the Hub's library cannot do, told as something that the user can mend; progress bars in a terminal only."""
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield
    except Exception as error:
        what, do = _explained(error)
        raise InstructLabError(what, where=f"{repository}, revision {revision}", do=do) from error


def _explained(error: Exception) -> tuple[str, str]:
    from huggingface_hub import constants, errors

    reason = " ".join(str(error).split())[:300]
    if isinstance(error, errors.GatedRepoError):
        do = "accept its terms on its page on the Hub, then log in with `hf auth login`"
        return "The model is gated: its makers ask you to accept their terms first", do
    if isinstance(error, errors.RevisionNotFoundError):
        return "The model repository has no such revision", "correct model.weights.revision: a commit, tag or branch"
    if isinstance(error, errors.RepositoryNotFoundError):
        do = "correct model.weights.repository; for a private one log in with `hf auth login`"
        return "The Hub has no such model repository, or it is private", do
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"The model repository lacks a file ({reason})", "correct its name"
    if isinstance(error, errors.HFValidationError):
        return f"This names no model repository ({reason})", "write it as owner/name"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full, so the model cannot be downloaded", "free some space, or move the cache with HF_HOME"
    if constants.HF_HUB_OFFLINE and isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        do = "unset HF_HUB_OFFLINE to download it, copy the Hub's cache (HF_HOME) here, or use a local folder"
        return "The Hub is switched off (HF_HUB_OFFLINE), and its cache does not hold this model whole", do
    if isinstance(error, PermissionError):
        return f"The Hub's cache cannot be used ({reason})", "mend its permissions, or move it with HF_HOME"
    do = "check the network and try again, copy the Hub's cache (HF_HOME) here, or use a local folder"
    return f"The Hub cannot be reached, and its cache does not hold this model whole ({reason})", do
