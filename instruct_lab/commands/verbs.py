"""What the verbs of the command line do with runs: train, sweep, compare, continue, use them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError


def train(parsed: argparse.Namespace) -> int:
    """Train one run, or a sweep of them."""
    from instruct_lab.experiment.check import check
    from instruct_lab.sweep.plan import varies

    checked = check(parsed.overrides)
    if parsed.multirun or (checked.sweep is not None and varies(checked.sweep["sweep"], checked.composition)):
        return sweep(parsed)
    checked.or_refuse().print_warnings()
    from instruct_lab.training.run import train

    train(checked.experiment, checked.resolved, checked.composition.choices, parsed.overrides)
    return 0


def sweep(parsed: argparse.Namespace) -> int:
    """Run a sweep."""
    from instruct_lab.sweep.plan import plan

    planned = plan(parsed.overrides)
    from instruct_lab.sweep.driver import start

    return start(planned, _wide_console())


def _wide_console() -> Any:
    """Standard output; wide enough for a table where it is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, 150))


def compare(parsed: argparse.Namespace) -> int:
    """Compare runs, or those of a sweep."""
    from instruct_lab.comparison.compare import compare
    from instruct_lab.comparison.text import markdown, show

    records, chief = _compared_records(parsed)
    compared = compare(records, chief, parsed.disagreements)
    metrics = None if chief is None else [chief]
    if parsed.html:
        from instruct_lab.comparison.page.page import write_comparison

        sweep = _compared_sweep(parsed)
        print(write_comparison(Path(parsed.html), records if sweep is None else sweep.runs(), compared))
    elif parsed.json:
        print(json.dumps(compared.to_json(), indent=2))
    elif parsed.markdown:
        print(markdown(compared, metrics))
    else:
        show(compared, _wide_console(), metrics)
    return 0


def _compared_records(parsed: argparse.Namespace) -> tuple[list[Any], str | None]:
    """The records that are compared, and the metric that it is about, where one is named or the sweep has one."""
    from instruct_lab.records import find_run

    sweep = _compared_sweep(parsed)
    if sweep is None:
        return [find_run(Path(parsed.runs), name) for name in parsed.runs_compared], parsed.metric
    return sweep.finished_runs(), parsed.metric or sweep.measured_metric()


def _compared_sweep(parsed: argparse.Namespace) -> Any:
    """The sweep whose runs are compared; none where runs are named."""
    from instruct_lab.sweep.record import find_sweep

    return find_sweep(Path(parsed.runs), parsed.runs_compared[0]) if len(parsed.runs_compared) == 1 else None


def report(parsed: argparse.Namespace) -> int:
    """Write a study's report."""
    from instruct_lab.files import write_atomically
    from instruct_lab.sweep.report import report

    text = report(parsed.study, Path(parsed.runs))
    if parsed.output is None:
        print(text)
    else:
        write_atomically(Path(parsed.output), [text, "\n"])
        print(parsed.output)
    return 0


def watch(parsed: argparse.Namespace) -> int:
    """Show a sweep's table."""
    from instruct_lab.sweep.record import find_sweep
    from instruct_lab.sweep.table import watch

    sweep = find_sweep(Path(parsed.runs), parsed.sweep)
    if sweep is None:
        raise InstructLabError(f"No sweep goes by {parsed.sweep!r}", where=parsed.runs, do="see `instruct-lab runs`")
    watch(sweep, _wide_console())
    return 0


def _recorded(parsed: argparse.Namespace) -> tuple[Any, Any, dict[str, Any]]:
    """A run's record, its experiment, and its config as plain containers."""
    from omegaconf import OmegaConf

    from instruct_lab.experiment.check import check_config, plain
    from instruct_lab.records import find_run

    record = find_run(Path(parsed.runs), parsed.run)
    config = OmegaConf.create(record.config)
    return record, check_config(config), plain(config)


def resume(parsed: argparse.Namespace) -> int:
    """Go on with a run or a sweep."""
    from instruct_lab.sweep.record import sweep_to_resume

    sweep = sweep_to_resume(Path(parsed.runs), parsed.run)
    if sweep is not None:
        from instruct_lab.sweep.driver import resume as resume_sweep

        return resume_sweep(sweep, _wide_console())
    record, experiment, config = _recorded(parsed)
    from instruct_lab.training.run import resume

    resume(experiment, config, record)
    return 0


def reproduce(parsed: argparse.Namespace) -> int:
    """Run a recorded config again."""
    record, experiment, config = _recorded(parsed)
    from instruct_lab.training.run import train

    train(experiment, config, record.manifest.choices, record.overrides)
    return 0


def runs(parsed: argparse.Namespace) -> int:
    """List the recorded runs."""
    from instruct_lab.records.query import find_runs
    from instruct_lab.records.runs_table import runs_table

    found = find_runs(Path(parsed.runs), parsed.query, parsed.sort, parsed.reverse)
    if parsed.json:
        print(json.dumps([{key: value for key, value in run.items() if key != "asked"} for run in found], indent=2))
    else:
        _wide_console().print(runs_table(found))
    return 0


def dashboard(parsed: argparse.Namespace) -> int:
    """Show the recorded runs in a local page."""
    from instruct_lab.tracker.dashboard import serve

    serve(Path(parsed.runs), port=parsed.port, browser=not parsed.no_browser)
    return 0


def generate(parsed: argparse.Namespace) -> int:
    """Print a model's answers."""
    record, experiment, _ = _recorded(parsed)
    from instruct_lab.export.use import generate

    if parsed.base and parsed.checkpoint:
        raise InstructLabError("--base is the untuned model, which has no checkpoint", do="leave one of them out")
    weights = "base" if parsed.base else parsed.checkpoint
    for text in generate(experiment, record, parsed.prompt, system=parsed.system, weights=weights):
        print(text)
    return 0


def export(parsed: argparse.Namespace) -> int:
    """Write the tuned model as a plain folder."""
    record, experiment, config = _recorded(parsed)
    from instruct_lab.export.use import export

    written = export(
        experiment, config, record, Path(parsed.path), keep_adapter=parsed.keep_adapter, checkpoint=parsed.checkpoint
    )
    print(written)
    return 0
