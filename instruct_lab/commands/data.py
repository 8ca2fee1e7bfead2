"""The command `inspect`: show the data as the model will receive it."""

from __future__ import annotations

import argparse
from pathlib import Path


def inspect(parsed: argparse.Namespace) -> int:
    """Show examples of a split with their tokens and labels, or the rows that were left out."""
    from instruct_lab.experiment.check import check

    experiment = check(parsed.overrides).or_refuse().experiment
    from rich.console import Console

    from instruct_lab.inspection.inspection import inspect

    inspect(
        experiment,
        split=parsed.split,
        num=parsed.num,
        row=parsed.row,
        dropped=parsed.dropped,
        ids=parsed.ids,
        html=Path(parsed.html) if parsed.html else None,
        as_json=parsed.json,
        console=Console(),
    )
    return 0
