"""Messages for the user before a run: warnings, what was detected about model and data, and the permissions used."""

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
    """Print what was detected about each model or data set that the config refers to by a path or a hub name.

    Args:
        choices: for each config (a sweep has several), the option chosen from each group, keyed by the group's name.
            An option such as `path:FILE`, from `data=path:FILE`, is such a reference.
        error: whether to print to standard error instead of standard output.
    """
    from instruct_lab.config.references import reference_notes

    for note in reference_notes(*choices):
        write_line(f"    {note}", error=error)


def print_permissions(experiment: Experiment) -> None:
    """Print to standard error, one line each, what an experiment does that needs the user's permission."""
    from instruct_lab.config.permitted import permitted

    for use in permitted(experiment):
        write_line(use, error=True)
