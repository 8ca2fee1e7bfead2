"""Setup and cleanup that all calls of the Python interface share: permissions, hiding of secrets, interruptions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from instruct_lab import secrets
from instruct_lab.errors import InstructLabError, Problem
from instruct_lab.guard import private_files, protect_override, redacted_streams
from instruct_lab.terminal import write_line


@contextlib.contextmanager
def guarded(overrides: Sequence[str] = (), allow: Sequence[str] = ()) -> Iterator[list[str]]:
    """Grant permissions, hide secrets in the output and make new files private while the block runs, as a command does.

    Args:
        overrides: the overrides that the user passed; they are yielded with each secret replaced by a reference to an
            environment variable.
        allow: names of permissions to grant, as after `--allow` on the command line.

    Raises:
        InstructLabError: `overrides` or `allow` is a string instead of a list, or `allow` contains a name that no
            permission has.
    """
    for name, given in (("overrides", overrides), ("allow", allow)):
        if isinstance(given, str):
            raise InstructLabError(
                f"{name} is one text, {given!r}", where="the call", do=f"give a list of texts: [{given!r}]"
            )
    from instruct_lab.config.permitted import allow_given

    secrets.remember_environment()
    texts = [protect_override(text) for text in overrides]
    with redacted_streams(), private_files(), allow_given(allow, texts):
        yield texts


def print_warnings(warnings: Iterable[Problem]) -> None:
    """Print the warnings of a config to standard error, one line each, as the commands do."""
    for warning in warnings:
        write_line(f"warning: {warning}", error=True)


def print_references(*choices: Mapping[str, Any]) -> None:
    """Print what was recognised (splits, model family and so on) in models and data named by a path or a hub name.

    Args:
        choices: for one or several configs, the chosen option of each group. Only options such as `data=path:FILE` or
            `model=hub:ORG/NAME` are reported.
    """
    from instruct_lab.config.references import reference_notes

    for note in reference_notes(*choices):
        write_line(note, error=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` if a signal such as SIGTERM stops a run in the block; the process does not end."""
    from instruct_lab.training.ending import Interrupted

    try:
        yield
    except Interrupted as error:
        raise KeyboardInterrupt(f"interrupted by {error}; continue with Run.resume()") from error
