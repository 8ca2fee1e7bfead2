"""The command `doctor`: the software and hardware of this machine, and what cannot run on it."""

from __future__ import annotations

import argparse
import json

from instruct_lab.commands.arguments import AddCommand
from instruct_lab.terminal import write_hanging, write_line


def doctor(parsed: argparse.Namespace) -> int:
    """Print the software and hardware of this machine; return 1 if a required package is missing or unsuitable.

    With `--json`, the problems are part of the output, and the exit code is always 0.
    """
    from instruct_lab.diagnosis import diagnose, render

    found = diagnose()
    if parsed.json:
        write_line(json.dumps(found, indent=2))
        return 0
    for line in render(found).splitlines():
        write_hanging(line, 4)
    return 1 if found["problems"] else 0


def add_commands(add: AddCommand) -> None:
    """Add `doctor` to the command line."""
    add(
        "doctor",
        doctor,
        "show versions, devices, memory, caches and keys, and what will be refused or slow on this machine",
        "instruct-lab doctor",
        "instruct-lab doctor --json",
        json=True,
    )
