"""The registry of checks: a dictionary from an instruction's id to the function that checks it in an answer."""

from __future__ import annotations

import csv
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from instruct_lab.optional_packages import is_installed

CheckFunction = TypeVar("CheckFunction", bound=Callable[..., bool])


class Check(Protocol):
    """A function that checks an answer; it gets the instruction's arguments, with the benchmark's names for them."""

    def __call__(self, answer: str, **arguments: Any) -> bool:
        """Whether the answer follows the instruction."""


CHECKS: dict[str, Check] = {}
PACKAGES: dict[str, str] = {}


def checks(instruction: str, package: str | None = None) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as the check of an instruction.

    Args:
        instruction: the instruction's id in the benchmark, `family:name`.
        package: the package that must be installed for the check; `None` if the check needs none.
    """

    def register(check: CheckFunction) -> CheckFunction:
        CHECKS[instruction] = check
        if package:
            PACKAGES[instruction] = package
        return check

    return register


def missing_package(instruction: str) -> str | None:
    """Return the package that the check of an instruction needs, if it is not installed; otherwise `None`."""
    package = PACKAGES.get(instruction)
    return package if package and not is_installed(package) else None


def is_verifiable(instruction: str, arguments: Mapping[str, Any]) -> bool:
    """Whether an instruction has a check that accepts these arguments and whose package is installed."""
    check = CHECKS.get(instruction)
    if check is None or missing_package(instruction):
        return False
    try:
        inspect.signature(check).bind("", **arguments)
    except TypeError:
        return False
    return True


def is_followed(instruction: str, answer: str, arguments: Mapping[str, Any]) -> bool:
    """Whether an answer follows a verifiable instruction; an empty answer follows no instruction."""
    if not answer.strip():
        return False
    try:
        return bool(CHECKS[instruction](answer, **arguments))
    except (IndexError, ZeroDivisionError, csv.Error):  # the answer is too short or malformed for the check
        return False
