"""Protect what a command writes and prints: secrets are hidden, and new files are private to the user."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TextIO

from instruct_lab import secrets
from instruct_lab.errors import InstructLabError
from instruct_lab.terminal import write_line

UMASK_VARIABLE = "INSTRUCT_LAB_UMASK"
"""Environment variable with a umask to use instead of 077: with 027 the group can read new files, with 022 everyone."""
PRIVATE = 0o077
SHARED_COMMANDS = ("init",)
"""Commands that write files for other people too; these files are not made private."""
OVERRIDING = ("train", "check", "show", "inspect", "resume")
"""Commands whose arguments are overrides of a config."""
NAMED_VALUE = re.compile(r"(?<![\w.-])(?P<name>[\w.-]++)(?P<is>\s*[:=]\s*[\"']?)(?P<value>[^\s,\"'{}\[\]()]+)")


def guarded(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate a command line's main function, so that it hides secrets in its output and makes new files private."""

    @functools.wraps(main)
    def run(arguments: Sequence[str] | None = None) -> int:
        given = list(sys.argv[1:] if arguments is None else arguments)
        secrets.forget_all()
        secrets.remember_environment()
        if given and given[0] in OVERRIDING:
            given = [protect_override(argument) for argument in given]
        if arguments is None:
            sys.argv[1:] = given  # trackers record them, and Lightning starts other processes with them
            sys.excepthook = print_traceback
        with redacted_streams():
            try:
                with contextlib.nullcontext() if given[:1] == [*SHARED_COMMANDS] else private_files():
                    return main(given)
            except InstructLabError as error:
                if "--debug" in given:
                    raise
                write_line(error, error=True)
                return 2

    return run


def protect_override(argument: str) -> str:
    """Replace each secret in an override by a reference to an environment variable, `${oc.env:NAME}`, that holds it.

    A secret is a value whose key is typical of secrets (such as `api_key`), a text that looks like an access key, or
    the value of an environment variable whose name is typical of secrets. Such a value occurs in an override if the
    user typed `$HF_TOKEN` on the command line, because the shell replaces the variable by its value.
    """
    key, is_assignment, value = argument.partition("=")
    if not is_assignment or not re.fullmatch(r"[+~]*[\w./@$-]+", key):
        return argument
    key = key.lstrip("+~")
    unquoted = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
    if not unquoted.startswith("${") and secrets.looks_like_secret(key, unquoted):
        found = {unquoted: key}
    else:
        found = {match["value"]: f"{key}_{match['name']}" for match in NAMED_VALUE.finditer(value) if _is_secret(match)}
        found |= dict.fromkeys(secrets.find_forms(value), key)
    variables = {text: secrets.variable_for(text, name) for text, name in found.items()}
    variables |= secrets.contained(value)
    if not variables:
        return argument
    pattern = "|".join(map(re.escape, sorted(variables, key=len, reverse=True)))
    replaced = re.sub(pattern, lambda match: f"${{oc.env:{variables[match.group()]}}}", value)
    is_whole = re.fullmatch(r"\$\{oc\.env:\w+\}", replaced) is not None
    if not is_whole and value[:1] not in ("'", '"', "[", "{") and "(" not in value:
        from instruct_lab.config.quoting import quote_value  # imports Hydra

        replaced = quote_value(replaced)
    return f"{argument.partition('=')[0]}={replaced}"


def _is_secret(match: re.Match[str]) -> bool:
    return not match["value"].startswith("$") and secrets.looks_like_secret(match["name"], match["value"])


# ---- files


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Make the files and folders that are created in the block readable for the user only.

    For this, the block runs with umask 077. If the environment variable `INSTRUCT_LAB_UMASK` is set, its value replaces
    077. Permissions that the process's own umask removes are removed in both cases.

    Raises:
        InstructLabError: `INSTRUCT_LAB_UMASK` is not a mask in octal digits.
    """
    text = os.environ.get(UMASK_VARIABLE) or f"{PRIVATE:o}"
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise InstructLabError(
            f"{UMASK_VARIABLE} is {text!r}, which is not a mask of permissions",
            where="the environment",
            do="set it to octal digits, such as 027 to let the group read new files, or unset it",
        )
    before = os.umask(PRIVATE)
    os.umask(before | int(text, 8))
    try:
        yield
    finally:
        os.umask(before)


# ---- output


class RedactedStream:
    """A text stream that hides secrets in the texts that are written to it.

    Args:
        stream: the stream to write to.
        hide: function that hides secrets in a text.
    """

    def __init__(self, stream: TextIO, hide: Callable[[str], str]) -> None:
        self._stream, self._hide = stream, hide

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write a text without its secrets, and return the length of the original text."""
        self._stream.write(self._hide(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts without their secrets."""
        for line in lines:
            self.write(line)


@contextlib.contextmanager
def redacted_streams() -> Iterator[None]:
    """Hide secrets in what is printed to standard output and standard error while the block runs.

    In both streams, the values that `instruct_lab.secrets` has registered are hidden. On standard error, every text
    that looks like a secret is hidden too. On standard output it is not, since data printed there may look similar.
    """
    before = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = RedactedStream(sys.stdout, secrets.hide)
    if sys.stderr is not None:
        sys.stderr = RedactedStream(sys.stderr, secrets.hide_forms)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without secrets; this function replaces `sys.excepthook`."""
    if sys.stderr is not None:
        sys.stderr.write(secrets.hide_forms("".join(traceback.format_exception(kind, error, trace))))
