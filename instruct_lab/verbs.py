"""What the verbs of the command line do with runs: train, sweep, compare, continue, use them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from instruct_lab.errors import InstructLabError


def train(parsed: argparse.Namespace) -> int:
    """Train one run, or a sweep of them."""
    from instruct_lab.config.check import check

    checked = check(parsed.overrides)
    if parsed.multirun or (checked.sweep is not None and checked.sweep["sweep"].varies):
        return sweep(parsed)
    checked.or_refuse()
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
    from instruct_lab.sweep.record import find_sweep
    from instruct_lab.tracking import find_run
    from instruct_lab.tracking.compare import compare, markdown, show

    runs_path = Path(parsed.runs)
    sweep = find_sweep(runs_path, parsed.runs_compared[0]) if len(parsed.runs_compared) == 1 else None
    if sweep is not None:
        records = [run for run in sweep.runs() if run.manifest.get("status") == "finished"]
    else:
        records = [find_run(runs_path, name) for name in parsed.runs_compared]
    compared = compare(records)
    if parsed.json:
        print(json.dumps(compared.to_json(), indent=2))
    elif parsed.markdown:
        print(markdown(compared))
    else:
        show(compared, _wide_console())
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

    from instruct_lab.config.check import check_config, plain
    from instruct_lab.tracking import find_run

    record = find_run(Path(parsed.runs), parsed.run)
    config = OmegaConf.load(record.path / "config.yaml")
    return record, check_config(config), plain(config)  # type: ignore[arg-type]


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

    train(experiment, config, record.manifest.get("choices", {}), record.overrides)
    return 0


def runs(parsed: argparse.Namespace) -> int:
    """List the recorded runs."""
    from instruct_lab.tracking import list_runs

    found = list_runs(Path(parsed.runs))
    if parsed.json:
        print(json.dumps(found, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(Column("id", no_wrap=True), Column("name", overflow="fold"), "status", "metrics")
    for run in found:
        values = [f"{name} {value:.4g}" for name, value in run["metrics"].items() if isinstance(value, int | float)]
        table.add_row(run["id"], run["name"], run["status"], "  ".join(values[:4]))
    Console().print(table)
    return 0


def dashboard(parsed: argparse.Namespace) -> int:
    """Show the recorded runs in a local page."""
    from instruct_lab.tracking.dashboard import serve

    serve(Path(parsed.runs), port=parsed.port, browser=not parsed.no_browser)
    return 0


def generate(parsed: argparse.Namespace) -> int:
    """Print a model's answers."""
    record, experiment, _ = _recorded(parsed)
    from instruct_lab.training.use import generate

    if parsed.base and parsed.checkpoint:
        raise InstructLabError("--base is the untuned model, which has no checkpoint", do="leave one of them out")
    weights = "base" if parsed.base else parsed.checkpoint
    for text in generate(experiment, record, parsed.prompt, system=parsed.system, weights=weights):
        print(text)
    return 0


def export(parsed: argparse.Namespace) -> int:
    """Write the tuned model as a plain folder."""
    record, experiment, config = _recorded(parsed)
    from instruct_lab.training.use import export

    written = export(
        experiment, config, record, Path(parsed.path), keep_adapter=parsed.keep_adapter, checkpoint=parsed.checkpoint
    )
    print(written)
    return 0
