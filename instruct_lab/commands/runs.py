"""The commands for runs (train, resume, reproduce, runs), and the command `watch` for sweeps."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_references, print_warnings
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.commands.results import Outcome, json_results, run_to_json, sweep_to_json
from instruct_lab.commands.sweeps import resume_sweep, start_sweep
from instruct_lab.errors import InstructLabError
from instruct_lab.launch import is_first_process
from instruct_lab.progress import stage
from instruct_lab.terminal import wide_console, write_line

IMPORTING = "importing torch, transformers and Lightning"


@json_results
def train(parsed: argparse.Namespace) -> Outcome:
    """Train, evaluate and record one run, or several runs if the config describes a sweep."""
    with stage("instruct-lab train: composing the config"):
        from instruct_lab.experiment.check import check
        from instruct_lab.sweep.plan import describes_sweep

        checked = check(parsed.overrides)
    if parsed.multirun or describes_sweep(checked):
        return start_sweep(parsed.overrides)
    checked.or_refuse()
    if is_first_process():
        print_warnings(checked.warnings)
        print_references(checked.composition.choices, error=True)
    with stage(IMPORTING):
        from instruct_lab.training.run import RunContext, train

    composition = checked.composition
    context = RunContext(facts={"derived": composition.derived})
    record = train(checked.experiment, checked.resolved, composition.choices, parsed.overrides, context)
    return Outcome(lambda: run_to_json(record))


@json_results
def resume(parsed: argparse.Namespace) -> Outcome:
    """Continue a run or a sweep that was interrupted, or make a run longer.

    Raises:
        InstructLabError: there is no such run, it cannot be continued, or an override is not allowed.
    """
    from instruct_lab.sweep.record import sweep_to_resume

    limits, devices = _changes(parsed.overrides)
    sweep = sweep_to_resume(Path(parsed.runs), parsed.run)
    if sweep is not None:
        if parsed.overrides:
            raise InstructLabError(
                "A sweep compares runs of one length, on the same devices, so neither can be changed",
                where=f"sweep {parsed.run}",
                do=f"start a new sweep with {' '.join(parsed.overrides)}",
            )
        return resume_sweep(sweep, parsed.force)
    with stage("instruct-lab resume: reading the record"):
        record, experiment, config = load_recorded(parsed)
    with stage(IMPORTING):
        from instruct_lab.training.run import resume

    resume(experiment, config, record, limits=limits, force=parsed.force, devices=devices)
    return Outcome(lambda: run_to_json(record))


LIMITS = ("max_epochs", "max_steps")
DEVICES = ("accelerator", "devices", "num_nodes", "strategy")
"""The trainer's arguments that choose where a run is computed, but not what it computes."""


def _changes(overrides: list[str]) -> tuple[dict[str, int], dict[str, Any]]:
    """Parse the overrides of `resume`.

    Returns:
        Two dictionaries from the name of a trainer argument to its new value. The first has the arguments that limit
        the length of training (`max_epochs`, `max_steps`), the second those that choose where a run is computed, such
        as `devices`.

    Raises:
        InstructLabError: an override sets anything else, or the value of `max_epochs` or `max_steps` is not a positive
            whole number.
    """
    limits: dict[str, int] = {}
    devices: dict[str, Any] = {}
    for text in overrides:
        found = re.fullmatch(r"\+{0,2}trainer\.(\w+)=([\w,]+)", text)
        name, value = found.groups() if found is not None else ("", "")
        is_positive = re.fullmatch(r"[1-9]\d*", value) is not None
        if name in LIMITS and is_positive:
            limits[name] = int(value)
        elif name in DEVICES:
            devices[name] = int(value) if is_positive else value
        else:
            raise InstructLabError(
                f"{text!r} cannot be changed in a run that has started: only its length can be raised, and its devices "
                "can be others",
                where="the overrides of `resume`",
                do="set trainer.max_epochs=N, trainer.max_steps=N or trainer.devices=N, or start a new run with "
                "`instruct-lab train`",
            )
    return limits, devices


@json_results
def reproduce(parsed: argparse.Namespace) -> Outcome:
    """Train a new run with the config of a recorded run, and compare the results of the two runs."""
    with stage("instruct-lab reproduce: reading the record"):
        record, experiment, config = load_recorded(parsed)
    with stage(IMPORTING):
        from instruct_lab.records.schema import REPRODUCTION
        from instruct_lab.training.reproducing import reproduce

    reproduced = reproduce(experiment, config, record, force=parsed.force)
    found = reproduced.read_json(REPRODUCTION) or {}  # another process of the run compares
    return Outcome(lambda: run_to_json(reproduced, reproduction=found), 0 if found.get("identical", True) else 1)


def runs(parsed: argparse.Namespace) -> int:
    """List the recorded runs."""
    from instruct_lab.records import list_runs
    from instruct_lab.records.query import find_runs
    from instruct_lab.records.runs_table import View, label_found, limited, runs_lines

    columns = [key.strip() for text in parsed.columns for key in text.split(",") if key.strip()]
    group = [parsed.group] if parsed.group else []
    path = Path(parsed.runs)
    known = list_runs(path)
    found = find_runs(path, parsed.query, parsed.sort, parsed.reverse, [*columns, *group], known)
    view = View(tuple(columns), parsed.sort, parsed.group, parsed.limit, parsed.reverse)
    if parsed.json:
        shown = limited(found, view)
        labels = label_found([one.run for one in shown])
        entries = [one.run.to_json() | {"label": str(label)} for one, label in zip(shown, labels, strict=True)]
        write_line(json.dumps(entries, indent=2))
    else:
        console = wide_console()
        for line in runs_lines(found, known, console.width, view):
            console.print(line, soft_wrap=True)
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a number of runs is 1 or more")
    return number


@json_results
def watch(parsed: argparse.Namespace) -> Outcome:
    """Show the table of a sweep's trials while the sweep runs; with `--json`, print its current status and results.

    Raises:
        InstructLabError: there is no such sweep.
    """
    from instruct_lab.sweep.record import find_sweep
    from instruct_lab.sweep.table import watch

    sweep = find_sweep(Path(parsed.runs), parsed.sweep)
    if sweep is None:
        raise InstructLabError(f"There is no sweep {parsed.sweep!r}", where=parsed.runs, do="see `instruct-lab runs`")
    if not parsed.json:
        watch(sweep, wide_console())
    return Outcome(lambda: sweep_to_json(sweep))


def add_commands(add: AddCommand) -> None:
    """Add `train`, `resume`, `reproduce`, `runs` and `watch` to the command line."""
    train_parser = add(
        "train",
        train,
        "train, evaluate and record one run, or a sweep of them",
        "instruct-lab train",
        "instruct-lab train data=stdlib_functions tuning=full optimizer.lr=2e-5",
        "instruct-lab train -m tuning.r=4,8,16",
        json=True,
        code=True,
    )
    arguments.add_overrides(train_parser)
    arguments.add_multirun(train_parser)
    again = "continue a run, or a sweep, that was interrupted, or make a run longer"
    examples = ("instruct-lab resume latest", "instruct-lab resume latest trainer.max_epochs=5")
    resume_parser = add("resume", resume, again, *examples, json=True, code=True)
    arguments.add_run(
        resume_parser, forced="go on although settings, inputs or code have changed, and record the changes"
    )
    changed = "trainer.max_epochs=N or trainer.max_steps=N: make the run longer; trainer.devices=N: use other devices"
    resume_parser.add_argument("overrides", nargs="*", metavar="CHANGE", help=changed)
    repeat = "run a recorded config again, as a new run, and compare the results (exit code 1 if they differ)"
    examples = ("instruct-lab reproduce latest", "instruct-lab reproduce latest --json")
    reproduce_parser = add("reproduce", reproduce, repeat, *examples, json=True, code=True)
    arguments.add_run(reproduce_parser, forced="go on although settings or inputs are not the recorded ones")
    runs_parser = add(
        "runs",
        runs,
        "list the recorded runs",
        "instruct-lab runs",
        "instruct-lab runs tuning=lora 'test/chrf>30' --sort test/chrf --reverse",
        "instruct-lab runs --columns test/chrf,optimizer.lr --group tuning --limit 20",
        json=True,
    )
    conditions = "conditions on any key, choice, metric or cost: tuning=lora test/chrf>30"
    runs_parser.add_argument("query", nargs="*", metavar="CONDITION", help=conditions)
    keys = "show these keys instead of the main metric: val/chrf,optimizer.lr (repeatable)"
    runs_parser.add_argument("--columns", metavar="KEY,KEY", action="append", default=[], help=keys)
    runs_parser.add_argument("--group", metavar="KEY", help="list the runs with the same value of this key together")
    few = "show only the first N runs of the list or, if it is not sorted, the N newest"
    runs_parser.add_argument("--limit", metavar="N", type=_positive, help=few)
    order = "sort by any of these, smallest first (default: oldest first)"
    runs_parser.add_argument("--sort", metavar="KEY", help=order)
    runs_parser.add_argument("--reverse", action="store_true", help="reverse the order: largest, or newest, first")
    arguments.add_runs_path(runs_parser)
    examples = ("instruct-lab watch latest", "instruct-lab watch latest --json")
    watch_parser = add("watch", watch, "show a sweep's table while it runs", *examples, json=True)
    watch_parser.add_argument(
        "sweep", metavar="SWEEP", nargs="?", default="latest", help="its id or folder (default: latest)"
    )
    arguments.add_runs_path(watch_parser)
