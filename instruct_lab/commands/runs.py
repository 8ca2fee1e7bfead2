"""Commands on runs (train, resume, reproduce, runs), and watch for a sweep of runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from instruct_lab.commands.console import print_warnings, wide_console
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.commands.sweeps import resume_sweep, start_sweep
from instruct_lab.errors import InstructLabError


def train(parsed: argparse.Namespace) -> int:
    """Train, evaluate and record one run, or several runs if the config describes a sweep."""
    from instruct_lab.experiment.check import check
    from instruct_lab.sweep.plan import varies

    checked = check(parsed.overrides)
    if parsed.multirun or (checked.sweep is not None and varies(checked.sweep["sweep"], checked.composition)):
        return start_sweep(parsed.overrides)
    checked.or_refuse()
    print_warnings(checked.warnings)
    from instruct_lab.training.run import RunContext, train

    composition = checked.composition
    context = RunContext(facts={"derived": composition.derived})
    train(checked.experiment, checked.resolved, composition.choices, parsed.overrides, context)
    return 0


def resume(parsed: argparse.Namespace) -> int:
    """Continue a run or a sweep that was interrupted."""
    from instruct_lab.sweep.record import sweep_to_resume

    sweep = sweep_to_resume(Path(parsed.runs), parsed.run)
    if sweep is not None:
        return resume_sweep(sweep)
    record, experiment, config = load_recorded(parsed)
    from instruct_lab.training.run import resume

    resume(experiment, config, record)
    return 0


def reproduce(parsed: argparse.Namespace) -> int:
    """Run a recorded config again, as a new run."""
    record, experiment, config = load_recorded(parsed)
    from instruct_lab.training.run import train

    train(experiment, config, record.manifest.choices, record.overrides)
    return 0


def runs(parsed: argparse.Namespace) -> int:
    """List the recorded runs."""
    from instruct_lab.records.query import find_runs
    from instruct_lab.records.runs_table import runs_table

    found = find_runs(Path(parsed.runs), parsed.query, parsed.sort, parsed.reverse)
    if parsed.json:
        print(json.dumps([one.run.to_json() for one in found], indent=2))
    else:
        wide_console().print(runs_table(found))
    return 0


def watch(parsed: argparse.Namespace) -> int:
    """Show a sweep's table while it runs."""
    from instruct_lab.sweep.record import find_sweep
    from instruct_lab.sweep.table import watch

    sweep = find_sweep(Path(parsed.runs), parsed.sweep)
    if sweep is None:
        raise InstructLabError(f"There is no sweep {parsed.sweep!r}", where=parsed.runs, do="see `instruct-lab runs`")
    watch(sweep, wide_console())
    return 0
