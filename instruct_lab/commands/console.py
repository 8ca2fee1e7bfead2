"""Consoles for output: standard output for tables, and standard error for warnings."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from instruct_lab.errors import Problem

if TYPE_CHECKING:
    from rich.console import Console

    from instruct_lab.experiment import Experiment

TABLE_WIDTH = 150


def wide_console() -> Console:
    """Return a console on standard output; if that is not a terminal, the console is wide enough for tables."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, TABLE_WIDTH))


def print_warnings(warnings: Iterable[Problem]) -> None:
    """Print each warning as one line to standard error."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def print_permissions(experiment: Experiment) -> None:
    """Print to standard error what an experiment does with the user's permission, one line each."""
    from instruct_lab.config.permitted import permitted

    for use in permitted(experiment):
        print(use, file=sys.stderr)
