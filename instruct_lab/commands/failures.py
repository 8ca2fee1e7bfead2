"""Report an error that ended a command, and decide the command's exit code."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from instruct_lab import secrets
from instruct_lab.errors import ConfigError, InstructLabError, is_out_of_memory, one_line, wrap_errors
from instruct_lab.terminal import write_line


def check_working_directory() -> None:
    """Refuse to run in a folder that was deleted.

    Raises:
        InstructLabError: the working directory does not exist.
    """
    what, where = "The working directory does not exist any more", os.environ.get("PWD", "")
    with wrap_errors(OSError, what=what, where=where, do="cd to another folder"):
        os.getcwd()


def report_failure(error: BaseException, *, is_debug: bool, as_json: bool = False) -> int:
    """Print the error that ended a command to standard error, and return the exit code.

    An interruption (by a signal, Ctrl-C or `sys.exit`) is not an error: it is neither raised again nor printed as JSON.

    Args:
        error: the exception that ended the command.
        is_debug: whether to raise an error again, so that its traceback is shown.
        as_json: whether to print an error also to standard output, as a JSON object.
    """
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    code = getattr(error, "exit_code", 1)
    if not isinstance(error, Exception) and code > 1:
        write_line(f"interrupted by {error}; continue with `instruct-lab resume latest`", error=True)
        return int(code)
    if is_debug:
        raise error
    if as_json:
        write_line(json.dumps({"error": error_to_json(error)}, indent=2, default=str))
    if isinstance(error, InstructLabError):
        write_line(error, error=True)
        return int(code)
    if is_out_of_memory(error):
        found = f"The memory is exhausted ({one_line(error)})."
        write_line(f"{found} What to do: choose a smaller model or less data, or free some memory.", error=True)
        return 1
    write_line(f"{type(error).__name__}: {error}\n(add --debug to see the traceback)", error=True)
    return 1


def error_to_json(error: BaseException) -> dict[str, Any]:
    """Return an error as JSON values: its type, what is wrong, where, what to do, and the problems of a config."""
    if not isinstance(error, InstructLabError):
        return {"type": type(error).__name__, "what": one_line(error), "where": "", "do": "", "problems": []}
    problems = error.problems if isinstance(error, ConfigError) else []
    parts = {name: secrets.hide(getattr(error, name)) for name in ("what", "where", "do")}
    return {"type": type(error).__name__, **parts, "problems": [problem.to_json() for problem in problems]}


def report_lost_output(error: OSError | ValueError | None) -> int:
    """If a command could not write its output, report the error and return the exit code 1; otherwise, return 0.

    If the program that reads the output ends before it has read everything, as `head` does, this is not an error.

    Args:
        error: the error of writing the output; `None` if there was none.
    """
    if error is None or isinstance(error, BrokenPipeError) or getattr(error, "errno", None) == errno.EPIPE:
        return 0
    write_line(
        f"A part of the output is lost, because standard output cannot be written ({one_line(error)}). "
        "What to do: free disk space, or write the output elsewhere.",
        error=True,
    )
    return 1
