"""The commands that read several runs: compare, report, dashboard."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.errors import InstructLabError
from instruct_lab.files import to_plain
from instruct_lab.terminal import wide_console, write_line

if TYPE_CHECKING:
    from instruct_lab.records import RunRecord
    from instruct_lab.sweep.record import SweepRecord

NUM_DISAGREEMENTS, NUM_ON_SCREEN = 3, 1
"""Default number of examples that show how the two best runs differ: with all tables, and on one screen."""


def compare(parsed: argparse.Namespace) -> int:
    """Compare runs, or the runs of a sweep, on the examples that they share."""
    from instruct_lab.comparison.compare import compare
    from instruct_lab.comparison.screen import screen_lines
    from instruct_lab.comparison.text import markdown, show

    sweep = _named_sweep(parsed)
    records, unfinished, metric = _compared(parsed, sweep)
    if parsed.on is not None:
        from instruct_lab.records.evaluations import find_evaluated

        records, unmeasured = find_evaluated(records, parsed.on)
        unfinished = [*unfinished, *unmeasured]
        metric = parsed.metric
    if parsed.plan is not None:
        return _plan(parsed, records, metric)
    is_screen = not (parsed.html or parsed.json or parsed.markdown or parsed.all_metrics)
    default = NUM_ON_SCREEN if is_screen else NUM_DISAGREEMENTS
    num_examples = default if parsed.disagreements is None else parsed.disagreements
    compared = compare(records, metric, num_examples, across_engines=parsed.across_engines)
    metrics = None if metric is None else [metric]
    if parsed.html:
        from instruct_lab.comparison.page.page import write_comparison

        write_line(write_comparison(Path(parsed.html), records if sweep is None else sweep.runs(), compared))
    elif parsed.json:
        write_line(json.dumps(compared.to_json(), indent=2))
    elif parsed.markdown:
        write_line(markdown(compared, metrics))
    elif parsed.all_metrics:
        show(compared, wide_console())
    else:
        console = wide_console()
        for line in screen_lines(compared, console.width, unfinished, records):
            console.print(line, soft_wrap=True)
    return 0


def _plan(parsed: argparse.Namespace, records: list[RunRecord], metric: str | None) -> int:
    """Print how many examples and seeds are needed to detect a difference of the size that `--plan` gives.

    Raises:
        InstructLabError: the difference is not positive, or an option is given that has no effect with `--plan`.
    """
    from instruct_lab.comparison.planning import plan_comparison

    if not (math.isfinite(parsed.plan) and parsed.plan > 0):
        what = f"A difference to plan for is a number above 0, not {parsed.plan:g}"
        raise InstructLabError(what, where="--plan", do="type the smallest difference that matters, such as --plan 2")
    for name in ("html", "markdown", "all_metrics", "disagreements", "across_engines"):
        if getattr(parsed, name) is not None and getattr(parsed, name) is not False:
            option = f"--{name.replace('_', '-')}"
            what = f"{option} belongs to a comparison, and --plan prints no comparison"
            raise InstructLabError(
                what, where="--plan", do=f"leave out {option}; a plan is printed as text or by --json"
            )
    found = plan_comparison(records, parsed.plan, metric)
    if parsed.json:
        write_line(json.dumps(to_plain(found), indent=2))
    else:
        for line in found.lines():
            write_line(line)
    return 0


def _named_sweep(parsed: argparse.Namespace) -> SweepRecord | None:
    """Return the record of the sweep that the command line names; `None` if it names runs."""
    from instruct_lab.sweep.record import find_sweep

    return find_sweep(Path(parsed.runs), parsed.runs_compared[0]) if len(parsed.runs_compared) == 1 else None


def _compared(
    parsed: argparse.Namespace, sweep: SweepRecord | None
) -> tuple[list[RunRecord], list[RunRecord], str | None]:
    """Find the records of the runs that the command line names, or of the runs of `sweep` if it is given.

    Returns:
        A tuple of three items: the records to compare; the records that are left out, because their runs have no
        results or have not finished; and the metric by which to compare. The metric is the one that `--metric` names.
        Without `--metric`, it is the first metric of the sweep that all its finished runs have measured; `None` if
        there is no sweep or no such metric.
    """
    from instruct_lab.records import find_run

    if sweep is not None:
        finished = sweep.finished_runs()
        paths = {run.path for run in finished}
        unfinished = [run for run in sweep.runs() if run.path not in paths]
        return finished, unfinished, parsed.metric or sweep.measured_metric()
    named = {run.path: run for run in (find_run(Path(parsed.runs), name) for name in parsed.runs_compared)}
    records = list(named.values())  # a run that is named twice counts once
    if parsed.on is not None:
        return records, [], parsed.metric
    measured = [run for run in records if run.summary is not None and run.summary.metrics]
    if len(measured) < 2:
        return records, [], parsed.metric  # which is refused with the reason
    return measured, [run for run in records if run not in measured], parsed.metric


@json_results
def report(parsed: argparse.Namespace) -> Outcome:
    """Print a study's report in Markdown, or write it to the file that `--output` names."""
    from instruct_lab.files import write_atomically
    from instruct_lab.sweep.report import report

    text = report(parsed.study, Path(parsed.runs))
    if parsed.output is None:
        write_line(text)
    else:
        write_atomically(Path(parsed.output), [text, "\n"])
        write_line(parsed.output)
    return Outcome(lambda: {"study": parsed.study, "path": parsed.output, "markdown": text})


def dashboard(parsed: argparse.Namespace) -> int:
    """Show all recorded runs on a web page that this machine serves."""
    from instruct_lab.tracker.dashboard import serve

    serve(Path(parsed.runs), port=parsed.port, browser=not parsed.no_browser)
    return 0


def add_commands(add: AddCommand) -> None:
    """Add `compare`, `report` and `dashboard` to the command line."""
    compare_parser = add(
        "compare",
        compare,
        "compare runs, or the runs of a sweep, on the examples they share",
        "instruct-lab compare runs/first/RUN_ID runs/second/RUN_ID",
        "instruct-lab compare SWEEP_ID --html comparison.html",
        "instruct-lab compare SWEEP_ID --on stdlib_functions",
        "instruct-lab compare SWEEP_ID --metric val/chrf --plan 2",
        json=True,
    )
    named = "runs, or one sweep: folder, id, beginning or end of an id, or `latest`"
    compare_parser.add_argument("runs_compared", metavar="RUN", nargs="+", help=named)
    compare_parser.add_argument("--markdown", action="store_true", help="print Markdown")
    metric = "compare by this metric, such as test/chrf (default: the sweep's, or the first)"
    compare_parser.add_argument("--metric", metavar="NAME", help=metric)
    evaluation = "compare the results of this evaluation, which `instruct-lab evaluate` has written into the records"
    compare_parser.add_argument("--on", metavar="NAME", help=evaluation)
    everything = "print the tables of all metrics, effects and Pareto fronts instead of one screen"
    compare_parser.add_argument("--all-metrics", action="store_true", help=everything)
    differing = "show N examples on which the two best runs differ (default: 3, and 1 on one screen)"
    compare_parser.add_argument("--disagreements", type=int, metavar="N", help=differing)
    engines = "compare answers that different engines decoded, too (generation.engine); they may differ in a few tokens"
    compare_parser.add_argument("--across-engines", action="store_true", help=engines)
    plan = "print how many examples and seeds show a difference of this size with 80%% power, and the cheapest pair"
    compare_parser.add_argument("--plan", type=float, metavar="DIFFERENCE", help=plan)
    page = "write one self-contained page with charts instead of printing"
    compare_parser.add_argument("--html", metavar="FILE", help=page)
    arguments.add_runs_path(compare_parser)
    report_parser = add(
        "report",
        report,
        "write a study's report in Markdown: question, command, results, conclusion",
        "instruct-lab report dry_run --output report.md",
        "instruct-lab report dry_run --json",
        json=True,
    )
    report_parser.add_argument("study", metavar="STUDY", help="its name: instruct-lab list experiments")
    report_parser.add_argument("--output", metavar="FILE", help="write a file instead of printing")
    arguments.add_runs_path(report_parser)
    dashboard_parser = add(
        "dashboard",
        dashboard,
        "open every recorded run in a page on this machine",
        "instruct-lab dashboard",
        "instruct-lab dashboard --port 7861 --no-browser",
    )
    dashboard_parser.add_argument("--port", type=int, metavar="N", help="port (default: the first free one from 7860)")
    dashboard_parser.add_argument("--no-browser", action="store_true", help="only print the address")
    arguments.add_runs_path(dashboard_parser)
