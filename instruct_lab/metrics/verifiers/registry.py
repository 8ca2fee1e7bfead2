"""Which instruction is checked by which function."""

from __future__ import annotations

import csv
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

CheckFunction = TypeVar("CheckFunction", bound=Callable[..., bool])


class Check(Protocol):
    """Takes an answer, and an instruction's arguments by their names in the benchmark."""

    def __call__(self, answer: str, **arguments: Any) -> bool:
        """Whether the answer follows the instruction."""


CHECKS: dict[str, Check] = {}
PACKAGES: dict[str, str] = {}


def checks(instruction: str, package: str | None = None) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function for an instruction's id.

    Args:
        instruction: its id in the benchmark, `family:name`.
        package: what has to be installed for it.
    """

    def register(check: CheckFunction) -> CheckFunction:
        CHECKS[instruction] = check
        if package:
            PACKAGES[instruction] = package
        return check

    return register


def missing_package(instruction: str) -> str | None:
    """The package that this instruction's check needs and that is not installed."""
    package = PACKAGES.get(instruction)
    return package if package and importlib.util.find_spec(package) is None else None


def is_verifiable(instruction: str, arguments: Mapping[str, Any]) -> bool:
    """Whether there is a check for this instruction, what it needs is installed, and these are its arguments."""
    check = CHECKS.get(instruction)
    if check is None or missing_package(instruction):
        return False
    try:
        inspect.signature(check).bind("", **arguments)
    except TypeError:
        return False
    return True


def is_followed(instruction: str, answer: str, arguments: Mapping[str, Any]) -> bool:
    """Whether an answer follows a verifiable instruction; an empty one follows none."""
    if not answer.strip():
        return False
    try:
        return bool(CHECKS[instruction](answer, **arguments))
    except (IndexError, ZeroDivisionError, csv.Error):  # too short or too broken to be looked at
        return False
