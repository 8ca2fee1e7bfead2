"""Errors that a user can fix. Any other exception is a bug and may show a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Iterator
from typing import Any, Literal, Self

from instruct_lab import secrets


class InstructLabError(Exception):
    """An error that the user can fix; its message is one paragraph.

    Args:
        what: one sentence about what is wrong.
        where: the config key, file, line or row that contains the error.
        do: the next step that fixes the error.
    """

    exit_code = 2
    """Exit code of the command: 2 if nothing had run before the error, 1 if it was raised within `started`."""

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        parts = [what.rstrip(".") + "."]
        if where:
            parts.append(f"Where: {where.rstrip('.')}.")
        if do:
            parts.append(f"What to do: {do.rstrip('.')}.")
        super().__init__(secrets.hide(" ".join(parts)))

    def at(self, where: str) -> Self:
        """Return a copy of this error whose location is `where`, followed by the location that this error names."""
        return type(self)(self.what, where=", ".join(filter(None, [where, self.where])), do=self.do)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__)  # errors of worker processes are pickled


class LimitExceeded(InstructLabError):
    """The error that is raised if a template or a pattern of the config needs more time or memory than allowed.

    This error always ends the preparation of the data. Other errors that a row of the data causes may only be counted.
    """


def _restore(kind: type[InstructLabError], args: tuple[Any, ...], fields: dict[str, Any]) -> InstructLabError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


@contextlib.contextmanager
def started() -> Iterator[None]:
    """Set the exit code of errors raised in the `with` block to 1 instead of 2, as the command has started its work."""
    try:
        yield
    except InstructLabError as error:
        error.exit_code = 1
        raise


MAX_PROBLEMS, MAX_VALUE, MAX_REASON = 50, 200, 2000
"""Limits of a printed error: number of problems, characters of a key or a value, and characters of a reason."""

ProblemKind = Literal["error", "unknown_key", "unknown_option", "missing", "unavailable_here", "permission", "warning"]
"""The kind of a problem in a config. All kinds except `warning` prevent the run.

- `error`: the config is wrong, or its choices contradict each other.
- `unknown_key`: a component has no field of this name, or a class has no argument of this name.
- `unknown_option`: a group has no option of this name.
- `missing`: a value that the user must set (`???`) is not set.
- `unavailable_here`: this machine lacks a package, a program or a GPU that the config needs.
- `permission`: the config needs a permission that the user has not given.
- `warning`: the run can start, but its result may not be the expected one.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem with a config.

    Args:
        key: full config key of the wrong value.
        value: the value found there; `None` if there is none to show.
        reason: what is wrong with the value.
        suggestion: the closest valid value, or what to type; `None` without a suggestion.
        kind: the kind of the problem; only a `warning` lets the run start.
    """

    key: str
    value: Any = None
    reason: str
    suggestion: str | None = None
    kind: ProblemKind = "error"

    @property
    def refuses(self) -> bool:
        """Whether the problem prevents the run from starting."""
        return self.kind != "warning"

    def __str__(self) -> str:
        found = "" if self.value is None else f" = {_shorten(repr(self.value), MAX_VALUE)}"
        suggestion = self.suggestion or ""  # one with quotes is a line for the shell, which `repr` would change
        meant = suggestion if "'" in suggestion else repr(suggestion)
        hint = f" Did you mean {meant}?" if suggestion else ""
        return f"{_shorten(self.key, MAX_VALUE)}{found}: {_shorten(self.reason.rstrip('.'), MAX_REASON)}.{hint}"

    def to_json(self) -> dict[str, Any]:
        """Return this problem as the dictionary that `check --json` prints."""
        return {"key": self.key, "value": self.value, "reason": self.reason, "suggestion": self.suggestion}


class ConfigError(InstructLabError):
    """The error for a config that cannot run, with every problem that was found in the config.

    Args:
        problems: all problems of the config.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"The config has {count}, so nothing was started")

    def __str__(self) -> str:
        lines = [f"  - {problem}" for problem in self.problems[:MAX_PROBLEMS]]
        if len(self.problems) > MAX_PROBLEMS:
            lines.append(f"  - and {len(self.problems) - MAX_PROBLEMS} more problems")
        return "\n".join([f"{self.what}:", *lines])


class Refusal(ValueError):
    """The error that a component's `__post_init__` raises to refuse the value of one of its fields.

    Args:
        field: the field's name, or the dotted key of a value inside the field.
        reason: why the value is refused.
        suggestion: the closest valid value.
    """

    def __init__(self, field: str, reason: str, suggestion: str | None = None) -> None:
        self.field, self.reason, self.suggestion = field, reason, suggestion
        super().__init__(f"{field}: {reason}")


def one_line(error: BaseException | str, max_characters: int = 300) -> str:
    """Return an error's message on one line, cut to a maximum length; an empty message gives the error's class name."""
    return _shorten(" ".join(str(error).split()) or type(error).__name__, max_characters)


def _shorten(text: str, max_characters: int) -> str:
    text = secrets.hide(text)  # before it is cut: a part of a secret would not be recognised
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "memory mapping file failed",
    "unable to mmap",
    "std::bad_alloc",
)
"""Parts of libraries' error messages, in lower case, that mean that memory is exhausted."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception or its cause means that the memory of the machine or of the GPU is exhausted."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    of_libraries = isinstance(error, RuntimeError | OSError) and not isinstance(error, InstructLabError)
    if of_libraries and any(text in str(error).lower() for text in MEMORY_TEXTS):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


@contextlib.contextmanager
def wrap_errors(*kinds: type[Exception], what: str, where: str = "", do: str = "") -> Iterator[None]:
    """Convert exceptions of other libraries in the `with` block to `InstructLabError`.

    An `InstructLabError` passes unchanged, and so does an exception caused by exhausted memory.

    Args:
        kinds: the exceptions to convert; by default every `Exception`.
        what: sentence about what failed; the exception's own message follows in brackets.
        where: the config key, file, line or row that the error concerns.
        do: the next step that fixes the error.
    """
    try:
        yield
    except InstructLabError:
        raise
    except Exception as error:
        if not isinstance(error, kinds or Exception) or is_out_of_memory(error):
            raise
        raise InstructLabError(f"{what.rstrip('.')} ({one_line(error)})", where=where, do=do) from error
