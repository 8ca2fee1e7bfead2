"""Ask the Hugging Face Hub about a repository, and explain errors of the Hub."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from instruct_lab.errors import InstructLabError, one_line

Kind = Literal["model", "data set"]
PINNED = re.compile(r"[0-9a-f]{40}")
"""Matches the hash of a commit. Unlike a branch or a tag, it always refers to the same files."""
SECONDS_TO_ANSWER = 10.0
"""Maximum time to wait for an answer of the Hub, in seconds."""


class HubUnreachable(InstructLabError):
    """The error that is raised if the Hub cannot be reached and the local cache does not hold the requested files."""


@dataclasses.dataclass(frozen=True)
class Repository:
    """A repository of the Hub at one commit.

    Args:
        commit: the hash of the commit.
        files: the size of each file in bytes, keyed by its name; `None` if the size is unknown.
    """

    commit: str
    files: Mapping[str, int | None]


def ask_hub(kind: Kind, repository: str, revision: str) -> Repository:
    """Ask the Hub for the commit to which a revision (a branch, tag or commit) refers, and for its files.

    Raises:
        HubUnreachable: the Hub cannot be reached.
        InstructLabError: there is no such repository or revision, or the repository is gated.
    """
    import huggingface_hub

    hub = huggingface_hub.HfApi()
    ask = hub.model_info if kind == "model" else hub.dataset_info
    with hub_errors(kind, repository, revision):
        info = ask(repository, revision=revision, timeout=SECONDS_TO_ANSWER, files_metadata=True)
    files = {file.rfilename: file.size for file in info.siblings or []}
    return Repository(info.sha or revision, files)


@contextlib.contextmanager
def hub_errors(kind: Kind, repository: str, revision: str) -> Iterator[None]:
    """Convert an exception raised in the `with` block to an `InstructLabError`.

    It is a `HubUnreachable` if the Hub does not answer, or answers with a server error. An `InstructLabError` passes
    unchanged.
    """
    from huggingface_hub import errors

    try:
        yield
    except InstructLabError:
        raise
    except Exception as error:
        what, do = explain(error, kind)
        is_answer = isinstance(error, errors.HfHubHTTPError | errors.HFValidationError) and not _is_outage(error)
        raised = InstructLabError if is_answer else HubUnreachable
        raise raised(what, where=f"{repository}, revision {revision}", do=do) from error


def _is_outage(error: Exception) -> bool:
    """Whether the Hub has answered with a server error (HTTP status 500 or above)."""
    return getattr(getattr(error, "response", None), "status_code", 0) >= 500


def explain(error: Exception, kind: Kind) -> tuple[str, str]:
    """Return an explanation of an error raised by huggingface_hub, and a way to fix it.

    Args:
        error: the error.
        kind: what the repository holds: `model` or `data set`.
    """
    from huggingface_hub import constants, errors

    reason = one_line(error)
    if isinstance(error, errors.GatedRepoError):
        do = "accept its terms on its page on the Hub, then log in with `hf auth login`"
        return f"The {kind} is gated: its makers ask you to accept their terms first", do
    if isinstance(error, errors.RevisionNotFoundError):
        return f"The {kind} repository has no such revision", "correct the revision: a commit, tag or branch"
    if isinstance(error, errors.RepositoryNotFoundError):
        do = "correct the name of the repository; for a private one log in with `hf auth login`"
        return f"The Hub has no such {kind} repository, or it is private", do
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return f"The {kind} repository lacks a file ({reason})", "correct its name"
    if isinstance(error, errors.HFValidationError):
        return f"This is not the name of a {kind} repository ({reason})", "write it as owner/name"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full, so the {kind} cannot be downloaded",
            "free some space, or move the cache with HF_HOME",
        )
    if constants.HF_HUB_OFFLINE and isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        do = "unset HF_HUB_OFFLINE to download it, copy the Hub's cache (HF_HOME) here, or use local files"
        return f"The Hub is switched off (HF_HUB_OFFLINE), and its cache does not hold the whole {kind}", do
    if isinstance(error, PermissionError):
        return f"The Hub's cache cannot be used ({reason})", "correct its permissions, or move it with HF_HOME"
    do = "check the network and try again, copy the Hub's cache (HF_HOME) here, or use local files"
    return f"The Hub cannot be reached, and its cache does not hold the whole {kind} ({reason})", do
