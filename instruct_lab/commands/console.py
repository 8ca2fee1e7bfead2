"""Print what a user should know before a run: warnings, recognised references and used permissions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from instruct_lab.errors import Problem
from instruct_lab.terminal import write_line

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment


def print_warnings(warnings: Iterable[Problem]) -> None:
    """Print each warning as one line to standard error."""
    for warning in warnings:
        write_line(f"warning: {warning}", error=True)


def print_references(*choices: Mapping[str, Any], error: bool = False) -> None:
    """Print what was recognised in the model or data that a chosen option such as `data=path:FILE` refers to.

    Args:
        choices: the chosen option of each group; for a sweep, the chosen options of all points.
        error: whether to print to standard error.
    """
    from instruct_lab.config.references import reference_notes

    for note in reference_notes(*choices):
        write_line(f"    {note}", error=error)


def print_permissions(experiment: Experiment) -> None:
    """Print to standard error what an experiment does with the user's permission, one line each."""
    from instruct_lab.config.permitted import permitted

    for use in permitted(experiment):
        write_line(use, error=True)
