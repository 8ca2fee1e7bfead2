"""What every call of the Python interface does around its work: permissions, protection of secrets, interruptions."""

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
    """Give permissions, hide secrets in the output and write private files until the block ends, as a command does.

    Args:
        overrides: the overrides of the call; those that hold secrets are yielded with references to variables instead.
        allow: permissions, as after `--allow`.

    Raises:
        InstructLabError: `overrides` or `allow` is one text, or a name in `allow` is no permission.
    """
    for name, given in (("overrides", overrides), ("allow", allow)):
        if isinstance(given, str):
            raise InstructLabError(
                f"{name} is one text, {given!r}", where="the call", do=f"give a list of texts: [{given!r}]"
            )
    from instruct_lab.config import permissions, permitted

    secrets.remember_environment()
    texts = [protect_override(text) for text in overrides]
    for name in allow:
        permissions.check_name(name)
    names = [*allow, *permitted.typed_permissions(texts)]
    with redacted_streams(), private_files(), permissions.allow(*names):
        yield texts


def print_warnings(warnings: Iterable[Problem]) -> None:
    """Print what may make the result of a run differ from what is expected, as the commands do."""
    for warning in warnings:
        write_line(f"warning: {warning}", error=True)


def print_references(choices: Mapping[str, Any]) -> None:
    """Print what was recognized for each chosen option that is a reference, such as `data=path:FILE`."""
    from instruct_lab.config.references import reference_notes

    for note in reference_notes(choices):
        write_line(note, error=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` if a signal stopped a run; only the command line exits with the code of a signal."""
    from instruct_lab.training.ending import Interrupted

    try:
        yield
    except Interrupted as error:
        raise KeyboardInterrupt(f"interrupted by {error}; continue with Run.resume()") from error
