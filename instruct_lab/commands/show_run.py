"""The command `show-run`: show one recorded run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.terminal import wide_console, write_line


def show_run(parsed: argparse.Namespace) -> int:
    """Show one run: its status, settings, results and files, in the terminal, as JSON or as a page."""
    from instruct_lab.records import find_run
    from instruct_lab.records.run_report import report_of

    report = report_of(find_run(Path(parsed.runs), parsed.run))
    if parsed.html:
        from instruct_lab.comparison.page.run_page import write_run_page

        write_line(write_run_page(Path(parsed.html), report))
    elif parsed.json:
        write_line(json.dumps(report.to_json(), indent=2, allow_nan=False))
    else:
        from instruct_lab.comparison.run_text import show

        show(report, wide_console())
    return 0


def add_commands(add: AddCommand) -> None:
    """Add `show-run` to the command line."""
    parser = add(
        "show-run",
        show_run,
        "show one run: status, settings that differ from the defaults, results, files",
        "instruct-lab show-run latest",
        "instruct-lab show-run latest --html run.html",
        json=True,
    )
    arguments.add_run(parser)
    page = "write a page with curves, settings, audit, results, predictions and system to FILE"
    parser.add_argument("--html", metavar="FILE", help=page)
