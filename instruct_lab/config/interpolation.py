"""Limit the work that the interpolations `${...}` of a config cause, and record which environment variables they read.

A chain such as `b: ${a}${a}`, `c: ${b}${b}`, ... doubles the work and the length of the text with each line, and
OmegaConf sets no limit. When this module is imported, it adds a limit by wrapping OmegaConf's method that resolves
interpolations.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from omegaconf.resolvers import oc

from instruct_lab import secrets

MAX_DEPTH = 25
"""Maximum depth of interpolations that refer to each other, as in `a: ${b}`, `b: ${c}`, `c: 1` (depth 2)."""
MAX_CHARACTERS = 100_000
"""Maximum number of characters of a text after its interpolations are replaced by their values."""
INTERPOLATION_COST = 20
"""Cost of resolving one interpolation; each value in its result adds 1 to this."""
MAX_COST = 20_000
"""Maximum total cost of the interpolations in one value or, inside a `bounded` block, of all in the block."""


@dataclasses.dataclass
class _Spending(threading.local):
    """Counts the work that interpolations have caused in this thread; `MAX_COST` and `MAX_DEPTH` limit it.

    Args:
        cost: 20 for each interpolation that was resolved, and 1 for each value in a list or mapping that it resulted
            in. It is summed over the current config value or, inside a `bounded` block, over the block.
        depth: how many interpolations are being resolved inside one another.
        in_block: whether a `bounded` block is active.
    """

    cost: int = 0
    depth: int = 0
    in_block: bool = False


_spending = _Spending()


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Limit the total work of all interpolations that are resolved inside the `with` block to `MAX_COST`.

    Outside of such a block, the limit applies to each value of the config separately. An interpolation costs 20, and
    each value in a list or mapping that it results in costs 1.
    """
    if _spending.in_block:
        yield
        return
    _spending.cost, _spending.in_block = 0, True
    try:
        yield
    finally:
        _spending.in_block = False


def is_limit_reached() -> bool:
    """Whether the interpolations inside the current `bounded` block have reached the limit `MAX_COST`."""
    return _spending.in_block and _spending.cost > MAX_COST


def _limit(resolve: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(resolve)
    def resolve_within_limits(*args: Any, **kwargs: Any) -> Any:
        if not _spending.depth and not _spending.in_block:
            _spending.cost = 0
        _spend(INTERPOLATION_COST)
        if _spending.depth >= MAX_DEPTH:
            raise InterpolationResolutionError(f"more than {MAX_DEPTH} interpolations refer to each other")
        _spending.depth += 1
        try:
            found = resolve(*args, **kwargs)
        finally:
            _spending.depth -= 1
        if isinstance(found, str) and len(found) > MAX_CHARACTERS:
            raise InterpolationResolutionError(f"the interpolated text has more than {MAX_CHARACTERS:,} characters")
        _spend_values(found)
        return found

    return resolve_within_limits


def _spend(cost: int) -> None:
    _spending.cost += cost
    if _spending.cost > MAX_COST:
        raise InterpolationResolutionError("the interpolations of the config stand for too many values")


def _spend_values(found: Any) -> None:
    """Add 1 to the cost of interpolations for each value in a list or mapping that an interpolation resulted in.

    Args:
        found: the result of the interpolation. If it is a list or mapping, nested values are counted too.

    Raises:
        InterpolationResolutionError: the cost exceeds `MAX_COST`.
    """
    waiting = [found]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, DictConfig | ListConfig) or not isinstance(node._content, dict | list):
            continue
        inner = list(node._content.values() if isinstance(node._content, dict) else node._content)
        _spend(len(inner))
        waiting += inner


if not hasattr(Container.resolve_parse_tree, "__wrapped__"):
    setattr(Container, "resolve_parse_tree", _limit(Container.resolve_parse_tree))  # noqa: B010


def _read_environment(variable: str, *default: Any) -> str | None:
    """Resolve `${oc.env:NAME}` or `${oc.env:NAME,default}`, and record which environment variable was read.

    The result is `None` only if the variable is not set and the default is null.
    """
    if variable not in os.environ and not default:
        raise InterpolationResolutionError(f"set the environment variable {variable}, from which the value is read")
    if variable in os.environ:
        secrets.note_reading(variable, os.environ[variable])
    value: str | None = oc.env(variable, *default)
    return value


OmegaConf.register_new_resolver("oc.env", _read_environment, replace=True)


def escape_interpolations(text: str) -> str:
    """Escape a text, so that OmegaConf reads it back unchanged, even if it contains `${...}`."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
