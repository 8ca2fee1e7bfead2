"""The one exception family for what a user can mend; anything else is a bug and may show a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any


class InstructLabError(Exception):
    """Something the user can mend, told in one paragraph.

    Args:
        what: what was found, in one sentence.
        where: the key, file, line or row it was found at.
        do: the next step that mends it.
    """

    def __init__(self, what: str, *, where: str = "", do: str = "") -> None:
        self.what, self.where, self.do = what, where, do
        parts = [what.rstrip(".") + "."]
        if where:
            parts.append(f"Where: {where.rstrip('.')}.")
        if do:
            parts.append(f"What to do: {do.rstrip('.')}.")
        super().__init__(" ".join(parts))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.__dict__)  # as it was, told by another process


def _again(kind: type[InstructLabError], args: tuple[Any, ...], fields: dict[str, Any]) -> InstructLabError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing wrong with a config: the full key, the value found, the reason, the nearest valid spelling."""

    key: str
    value: Any = None
    reason: str
    suggestion: str | None = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f" = {self.value!r}"
        hint = f" Did you mean {self.suggestion!r}?" if self.suggestion else ""
        return f"{self.key}{shown}: {self.reason.rstrip('.')}.{hint}"


class ConfigError(InstructLabError):
    """A config that cannot run, with every problem that was found."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"The config has {count}, so nothing was started")

    def __str__(self) -> str:
        return "\n".join([f"{self.what}:", *(f"  - {problem}" for problem in self.problems)])


class Refusal(ValueError):
    """Raised in a component's `__post_init__` to refuse one of its own fields by name."""

    def __init__(self, field: str, reason: str, suggestion: str | None = None) -> None:
        self.field, self.reason, self.suggestion = field, reason, suggestion
        super().__init__(f"{field}: {reason}")


def one_line(error: BaseException | str, max_characters: int = 300) -> str:
    """The message of an error on one line, shortened; its class where it has no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


@contextlib.contextmanager
def wrap_errors(*kinds: type[Exception], what: str, where: str = "", do: str = "") -> Iterator[None]:
    """Raise errors of the disk and of libraries as an `InstructLabError`; one that is already ours passes unchanged.

    Args:
        kinds: the exceptions that are wrapped; every `Exception` where none is named.
        what: what could not be done, as a sentence; the error's own message follows in brackets.
        where: the key, file, line or row.
        do: the next step that mends it.
    """
    try:
        yield
    except InstructLabError:
        raise
    except Exception as error:
        if not isinstance(error, kinds or Exception):
            raise
        raise InstructLabError(f"{what.rstrip('.')} ({one_line(error)})", where=where, do=do) from error
