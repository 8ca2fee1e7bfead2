"""Arguments that several commands have."""

from __future__ import annotations

import argparse


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add overrides of a config."""
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="group=option or key=value")


def add_multirun(parser: argparse.ArgumentParser) -> None:
    """Add the option that makes a sweep."""
    parser.add_argument("-m", "--multirun", action="store_true", help="make one run for each value: tuning.r=4,8,16")


def add_runs_path(parser: argparse.ArgumentParser) -> None:
    """Add the folder of run records."""
    parser.add_argument("--runs", default="runs", metavar="DIR", help="where run records are (default: runs)")


def add_run(parser: argparse.ArgumentParser, forced: str = "") -> None:
    """Add a recorded run; with a text `forced`, also the option `--force` with this help."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, id, unique prefix, or `latest`")
    add_runs_path(parser)
    if forced:
        parser.add_argument("--force", action="store_true", help=forced)


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a checkpoint."""
    used = "which checkpoint to use (default: the one that the run was evaluated with)"
    parser.add_argument("--checkpoint", choices=("best", "last"), help=used)


def add_permissions(parser: argparse.ArgumentParser) -> None:
    """Add the options that give permissions; their names are in `instruct_lab.config.permissions`."""
    names = "remote-code, pickle, execution, weak-sandbox, or a library's module or class"
    allowed = f"allow for this command what a config cannot allow itself: {names} (repeatable)"
    parser.add_argument("--allow", action="append", default=[], metavar="NAME", help=allowed)
    code = "let the lab's own Python files run in this command"
    parser.add_argument("--allow-lab-code", action="append_const", const="lab-code", dest="allow", help=code)
