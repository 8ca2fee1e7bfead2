"""Declaration of commands, and of the arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Command = Callable[[argparse.Namespace], int]
"""A function that runs a command and returns its exit code."""
AddCommand = Callable[..., argparse.ArgumentParser]
"""The function `add_command`, with its argument `commands` already bound."""


def format_examples(*commands: str) -> str:
    """Format example command lines for the end of a help text."""
    return "\n".join(["examples:", *(f"  {command}" for command in commands)])


def add_command(
    commands: Any, name: str, command: Command, text: str, *examples: str, json: bool = False, code: bool = False
) -> argparse.ArgumentParser:
    """Add a command to the command line, and return its parser.

    Args:
        commands: the object that argparse's `add_subparsers` returned.
        name: name of the command.
        command: function that runs the command.
        text: one-sentence description for `--help`.
        examples: complete command lines for `--help`.
        json: whether to add the option `--json`.
        code: whether to add the options that grant permissions, for a command that builds a config.
    """
    sub = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=format_examples(*examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(command=command)
    sub.add_argument("--debug", action="store_true", help="show tracebacks")
    if json:
        sub.add_argument("--json", action="store_true", help="machine-readable output")
    if code:
        add_permissions(sub)
    return sub


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that override values of the config."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or key=value")


def add_multirun(parser: argparse.ArgumentParser) -> None:
    """Add the option that starts a sweep."""
    parser.add_argument("-m", "--multirun", action="store_true", help="make one run for each value: tuning.r=4,8,16")


def add_runs_path(parser: argparse.ArgumentParser) -> None:
    """Add the option that sets the folder of run records."""
    parser.add_argument("--runs", default="runs", metavar="DIR", help="where run records are (default: runs)")


def add_run(parser: argparse.ArgumentParser, forced: str = "") -> None:
    """Add the argument that names a recorded run, and the option `--runs`.

    The option `--force` is added only if `forced`, its help text, is not empty.
    """
    parser.add_argument("run", metavar="RUN", help="a run's folder, id, unique beginning or end of the id, or `latest`")
    add_runs_path(parser)
    if forced:
        parser.add_argument("--force", action="store_true", help=forced)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses a checkpoint."""
    used = "which checkpoint to use (default: the one that the run was evaluated with)"
    parser.add_argument("--checkpoint", choices=("best", "last"), help=used)


def add_permissions(parser: argparse.ArgumentParser) -> None:
    """Add the options that grant permissions; `instruct_lab.config.permissions` lists the permissions' names."""
    names = "remote-code, pickle, execution, weak-sandbox, judge-server, task-code, outside-writes, a module or a class"
    allowed = f"allow for this command what a config cannot allow itself: {names} (repeatable)"
    parser.add_argument("--allow", action="append", default=[], metavar="NAME", help=allowed)
    code = "let the lab's own Python files run in this command"
    parser.add_argument("--allow-lab-code", action="append_const", const="lab-code", dest="allow", help=code)
