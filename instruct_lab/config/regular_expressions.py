"""Regular expressions with a time limit, for expressions that come from a config or from other people's data.

A short expression such as `(a|aa)+$` can need years for a short text, and a search with Python's `re` cannot be
interrupted. The package `regex` accepts a time limit. It has more syntax than `re`, and some of its character classes,
such as `\\w`, contain other characters than those of `re`. Therefore, an expression must be valid for `re`, and it is
translated such that `regex` finds what `re` would find.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from instruct_lab.errors import InstructLabError, LimitExceeded, one_line

if TYPE_CHECKING:
    import regex

MAX_SECONDS = 2.0
"""Maximum processor time for one search in one text."""
MAX_REPEATED = 100_000
"""Maximum number of characters that an expression's repetitions, such as `a{1000}`, may require a text to have.

The package `regex` needs memory for each of these characters.
"""
MAX_SHOWN = 120

TOKEN = re.compile(r"\(\?#[^)]*\)|\\N\{[^{}]*\}|\\.|\[\^?\]?|\{(?P<least>[0-9]*)(?:,[0-9]*)?\}|.", re.DOTALL)
WORD = r"\p{L}\p{N}_"
SPACE = r"\s\x1c-\x1f"
NO_WORD = r"\p{M}\p{S}\p{Z}\p{C}\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}\u203f\u2040\u2054\ufe33\ufe34\ufe4d-\ufe4f\uff3f"
NO_SPACE = r"\p{L}\p{N}\p{M}\p{P}\p{S}\p{Cf}\p{Cn}\p{Co}\p{Cs}\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
EDGE = rf"(?<=[{WORD}])(?![{WORD}])|(?<![{WORD}])(?=[{WORD}])"
NO_EDGE = rf"(?<=[{WORD}])(?=[{WORD}])|(?<![{WORD}])(?![{WORD}])"
OUTSIDE_SETS = {
    r"\w": f"[{WORD}]",
    r"\W": f"[^{WORD}]",
    r"\s": f"[{SPACE}]",
    r"\S": f"[^{SPACE}]",
    r"\b": f"(?:{EDGE})",
    r"\B": f"(?:{NO_EDGE})",
}
INSIDE_SETS = {r"\w": WORD, r"\W": NO_WORD, r"\s": SPACE, r"\S": NO_SPACE}
"""Replacements inside square brackets: classes of `regex` that contain the same characters as the classes of `re`.

`OUTSIDE_SETS` contains the replacements outside of square brackets.
"""


class LimitedExpression:
    """A compiled regular expression with a time limit, whose methods work like the methods of `re.Pattern`.

    The methods raise `LimitExceeded` if a search in one text needs more than `MAX_SECONDS`.

    Args:
        expression: the expression, in the syntax of `re`.
        where: the config key, file or data row that contains the expression, for error messages.
        ignore_case: whether the case of letters is ignored.

    Raises:
        InstructLabError: the expression is invalid.
    """

    def __init__(self, expression: str, *, where: str, ignore_case: bool = False) -> None:
        self.expression, self.where = expression, where
        try:
            self._compiled = _compile(expression, ignore_case)
        except ValueError as error:
            raise InstructLabError(one_line(error), where=where, do="correct the expression") from error

    def search(self, text: str) -> regex.Match[str] | None:
        """Return the first match anywhere in a text; `None` if there is no match."""
        return self._limited(self._compiled.search, text)

    def fullmatch(self, text: str) -> regex.Match[str] | None:
        """Return the match of the whole text; `None` if the expression does not match it."""
        return self._limited(self._compiled.fullmatch, text)

    def findall(self, text: str) -> list[Any]:
        """Return all matches in a text; if the expression has groups, return the text of the groups of each match."""
        return self._limited(self._compiled.findall, text)

    def sub(self, replacement: Callable[[regex.Match[str]], str], text: str) -> str:
        """Replace each match in a text by the result of `replacement`, a function that takes the match."""
        return self._limited(functools.partial(self._compiled.sub, replacement), text)

    def _limited(self, search: Callable[..., Any], text: str) -> Any:
        try:
            return search(text, timeout=MAX_SECONDS)
        except TimeoutError as error:
            raise LimitExceeded(
                f"The regular expression {_shorten(self.expression)} needs more than {MAX_SECONDS:g} seconds for a "
                f"text of {len(text):,} characters, which begins with {text[:60]!r}",
                where=self.where,
                do="simplify the expression: no repetition inside a repetition, such as (a+)+, and no alternatives "
                "that match the same text, such as (a|aa)+",
            ) from error


def check_expression(expression: str) -> str:
    """Check that a regular expression is valid, and return it unchanged.

    Raises:
        ValueError: the expression is not valid, or its repetitions need too much memory.
    """
    _compile(expression, False)
    return expression


Regex = Annotated[str, AfterValidator(check_expression)]
"""The type of a component's field whose value is a regular expression, which is to be used by `LimitedExpression`."""


@functools.lru_cache(maxsize=512)
def _compile(expression: str, ignore_case: bool) -> regex.Pattern[str]:
    import regex

    try:
        known = re.compile(expression)
        size, translated = _translate(expression, bool(known.flags & (re.ASCII | re.VERBOSE)))
        if size > MAX_REPEATED:
            reason = f"its repetitions require a text of {size:,} characters, and at most {MAX_REPEATED:,} are allowed"
            raise ValueError(f"{_shorten(expression)} is not accepted as a regular expression: {reason}")
        return regex.compile(translated, regex.IGNORECASE if ignore_case else 0)
    except (re.error, regex.error, OverflowError, RecursionError, MemoryError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError | MemoryError) else one_line(error)
        raise ValueError(f"{_shorten(expression)} is not a regular expression: {reason}") from error


def _translate(expression: str, keeps_classes: bool) -> tuple[int, str]:
    """Translate a regular expression from the syntax of the module `re` to the syntax of the package `regex`.

    Args:
        expression: an expression that is valid for `re`.
        keeps_classes: whether character classes such as `\\w` are left as they are.

    Returns:
        An estimate of how many characters a matching text needs, in which repetitions such as `{1000,}` count with
        their minimum; and the translated expression.
    """
    outside, inside = ({}, {}) if keeps_classes else (OUTSIDE_SETS, INSIDE_SETS)
    sizes, last, parts, in_set = [0], 0, [], False
    position = 0
    while position < len(expression):
        match = TOKEN.match(expression, position)
        assert match is not None
        token = match.group()
        if in_set:
            token = token[:2] if token[0] == "\\" else token[0]
            in_set = token != "]"
            parts.append(inside.get(token, "\\[" if token == "[" else token))
            position += len(token)
            continue
        position += len(token)
        if token.startswith("{") and match["least"] is not None and token != "{}":
            last *= max(1, int(match["least"] or 0))
            parts.append("{0,}" if token == "{,}" else token)
            continue
        sizes[-1] += last
        last = 1
        if token == "(":
            sizes.append(0)
            last = 0
        elif token == ")":
            last = sizes.pop()
        in_set = token.startswith("[")
        parts.append(rf"\{token}" if token == "{" else r"\{\}" if token == "{}" else outside.get(token, token))
    return sum(sizes) + last, "".join(parts)


def _shorten(expression: str) -> str:
    text = repr(expression)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
