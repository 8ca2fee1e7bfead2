"""The command `inspect`: show the data as the model will receive it."""

from __future__ import annotations

import argparse
from pathlib import Path

from instruct_lab.commands.console import print_permissions
from instruct_lab.terminal import open_console


def inspect(parsed: argparse.Namespace) -> int:
    """Show examples of a split with their tokens and labels, one row by its id, or the rows that were dropped."""
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
