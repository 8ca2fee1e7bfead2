"""The command `inspect`: show the data as the model will receive it."""

from __future__ import annotations

import argparse
from pathlib import Path

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_permissions
from instruct_lab.terminal import open_console


def inspect(parsed: argparse.Namespace) -> int:
    """Show examples of a split with their tokens and labels.

    With `--id`, show the row of the data with this id; with `--dropped`, show rows that were dropped.
    """
    from instruct_lab.experiment.check import check

    if "=" in (parsed.dropped or ""):  # an override that follows --dropped without a reason
        parsed.overrides, parsed.dropped = [parsed.dropped, *parsed.overrides], ""
    experiment = check(parsed.overrides).or_refuse().experiment
    print_permissions(experiment)

    from instruct_lab.inspection.inspection import inspect

    inspect(
        experiment,
        split=parsed.split,
        num=parsed.num,
        row=parsed.row,
        dropped=parsed.dropped,
        row_id=parsed.id,
        ids=parsed.ids,
        html=Path(parsed.html) if parsed.html else None,
        as_json=parsed.json,
        console=open_console(),
    )
    return 0


def add_commands(add: AddCommand) -> None:
    """Add `inspect` to the command line."""
    inspect_parser = add(
        "inspect",
        inspect,
        "show the data as it will reach the model",
        "instruct-lab inspect data=stdlib_functions --num 5 --ids",
        "instruct-lab inspect data=interface_fr --dropped 'plural entry'",
        json=True,
        code=True,
    )
    arguments.add_overrides(inspect_parser)
    inspect_parser.add_argument("--num", type=int, default=3, metavar="N", help="how many examples (default: 3)")
    inspect_parser.add_argument("--split", choices=("train", "validation", "test"), help="default: train")
    inspect_parser.add_argument("--row", type=int, metavar="K", help="the K-th example of the split, counted from 0")
    inspect_parser.add_argument("--id", help="the row with this id (or beginning of one), in any split or dropped")
    inspect_parser.add_argument(
        "--dropped", nargs="?", const="", metavar="REASON", help="dropped rows, or those for REASON"
    )
    inspect_parser.add_argument("--ids", action="store_true", help="show token ids too")
    inspect_parser.add_argument("--html", metavar="FILE", help="write a page instead of printing")
