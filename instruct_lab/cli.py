"""The command line: one command for each user task. Parsing the arguments imports no heavy library."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from instruct_lab import __version__
from instruct_lab.commands import arguments, cache, compare, configs, data, runs, use
from instruct_lab.commands.failures import check_working_directory, report_failure, report_lost_output
from instruct_lab.guard import guarded
from instruct_lab.streams import quiet_streams

Command = Callable[[argparse.Namespace], int]

SPIN_COUNT = "10000"
"""How often torch's CPU threads look for work before they sleep (`GOMP_SPINCOUNT`, read when torch is imported).

libgomp's default is 300,000: on a shared machine every operation then waits for threads that another process has
displaced. With a few thousand, threads sleep between the operations of a short training step, and waking them takes a
sixth of the step. See tests/benchmarks/README.md.
"""


RECORDING: tuple[Command, ...] = (runs.train, runs.resume, runs.reproduce)
"""Commands whose results are in a record, so that nothing is lost when their output cannot be written."""


@guarded
def main(typed: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The codes are 0: done; 1: failed while running; 2: refused before anything ran; 129, 130 and 143: interrupted.
    """
    with quiet_streams() as output:
        parsed = _parse(list(sys.argv[1:] if typed is None else typed))
        command: Command = parsed.command
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        try:
            check_working_directory()
            with _permissions(parsed):
                code = command(parsed)
        except BaseException as error:
            code = report_failure(error, is_debug=parsed.debug)
        output.flush()
        if code == 0 and command not in RECORDING:
            code = report_lost_output(output.error)
        return code


def _parse(given: list[str]) -> argparse.Namespace:
    parsed, unknown = _parser().parse_known_args(given)
    if unknown:
        if not hasattr(parsed, "overrides") or any(text.startswith("-") for text in unknown):
            hint = ""
            if hasattr(parsed, "overrides"):
                from instruct_lab.experiment.other_tools import describe_as_overrides

                hint = describe_as_overrides(unknown, given)
            _parser().error(f"unknown argument: {' '.join(unknown)}{hint}")
        parsed.overrides = [*parsed.overrides, *unknown]
    return parsed


def _permissions(parsed: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Give the permissions after `--allow`, and those for keys that an override sets to true, while a command runs."""
    names = getattr(parsed, "allow", [])
    overrides = getattr(parsed, "overrides", []) if hasattr(parsed, "allow") else []
    if not names and not overrides:
        return contextlib.nullcontext()
    from instruct_lab.config import permissions, permitted

    for name in names:
        permissions.check_name(name)
    return permissions.allow(*names, *permitted.typed_permissions(overrides))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="instruct-lab",
        description="Fine-tune language models on instructions; every run is a checked composition of config groups.",
        epilog=_examples("instruct-lab train experiments=dry_run", "instruct-lab list tuning lora"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"instruct-lab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_config_commands(commands)
    _add_run_commands(commands)
    _add_comparing_commands(commands)
    _add_using_commands(commands)
    return parser


def _examples(*commands: str) -> str:
    return "\n".join(["examples:", *(f"  {command}" for command in commands)])


def _add(
    commands: Any, name: str, command: Command, text: str, *examples: str, json: bool = False, code: bool = False
) -> Any:
    """Add a command.

    Args:
        commands: the parser's collection of commands.
        name: name of the command.
        command: function that runs the command.
        text: one-sentence description for `--help`.
        examples: complete command lines for `--help`.
        json: whether to add the option `--json`.
        code: whether the command builds a config and so needs the options that give permissions.
    """
    sub = commands.add_parser(
        name,
        help=text,
        description=text,
        epilog=_examples(*examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.set_defaults(command=command)
    sub.add_argument("--debug", action="store_true", help="show tracebacks")
    if json:
        sub.add_argument("--json", action="store_true", help="machine-readable output")
    if code:
        arguments.add_permissions(sub)
    return sub


def _add_config_commands(commands: Any) -> None:
    add = functools.partial(_add, commands)
    check = add(
        "check",
        configs.check,
        "report everything that is wrong with a config",
        "instruct-lab check data=alpaca_hub tuning=lora tuning.r=8",
        "instruct-lab check --all",
        "instruct-lab check --matrix --json",
        json=True,
        code=True,
    )
    arguments.add_overrides(check)
    check.add_argument("--all", action="store_true", help="check every option of every group, and every study")
    check.add_argument(
        "--matrix", action="store_true", help="list every combination of model family, objective, tuning and batching"
    )
    arguments.add_multirun(check)
    show = add(
        "show",
        configs.show,
        "show the composed config, and where each value came from",
        "instruct-lab show experiments=dry_run tuning.r=4",
        "instruct-lab show --all model=tiny_random",
        json=True,
        code=True,
    )
    arguments.add_overrides(show)
    show.add_argument("--all", action="store_true", help="also show fields that are not set, with their defaults")
    inspect = add(
        "inspect",
        data.inspect,
        "show the data as it will reach the model",
        "instruct-lab inspect data=stdlib_functions --num 5 --ids",
        "instruct-lab inspect data=interface_fr --dropped duplicate",
        json=True,
        code=True,
    )
    arguments.add_overrides(inspect)
    inspect.add_argument("--num", type=int, default=3, metavar="N", help="how many examples (default: 3)")
    inspect.add_argument("--split", choices=("train", "validation", "test"), help="default: train")
    inspect.add_argument("--row", type=int, metavar="K", help="the K-th example of the split, counted from 0")
    inspect.add_argument("--id", help="the row with this id (or beginning of one), in any split or dropped")
    inspect.add_argument("--dropped", nargs="?", const="", metavar="REASON", help="dropped rows, or those for REASON")
    inspect.add_argument("--ids", action="store_true", help="show token ids too")
    inspect.add_argument("--html", metavar="FILE", help="write a page instead of printing")
    listing = add(
        "list",
        configs.list_,
        "list the options of all groups, of one group, or everything about one option",
        "instruct-lab list",
        "instruct-lab list tuning",
        "instruct-lab list tuning lora",
        json=True,
        code=True,
    )
    listing.add_argument("group", nargs="?", metavar="GROUP")
    listing.add_argument("option", nargs="?", metavar="OPTION", help="show its fields, and what it works with")
    init = add(
        "init",
        configs.init,
        "write a lab of your own: a folder with one commented example of each kind",
        "instruct-lab init my_lab",
    )
    init.add_argument("path", metavar="DIR")
    allow = add(
        "allow",
        configs.allow,
        "allow something in every command: the Python files of a lab, a library's classes, or a permission by name",
        "instruct-lab allow my_lab",
        "instruct-lab allow remote-code",
        "instruct-lab allow --remove remote-code",
    )
    named = "a lab's folder, a library's module or class, or a permission; without one, list what is allowed"
    allow.add_argument("names", metavar="NAME", nargs="*", help=named)
    allow.add_argument("--remove", action="store_true", help="do not allow it any longer")
    stored = add(
        "cache",
        cache.cache,
        "list or clear the data cache: preprocessed and tokenised data",
        "instruct-lab cache list",
        "instruct-lab cache clear --older-than 30",
        json=True,
    )
    stored.add_argument("action", choices=("list", "clear"))
    stored.add_argument("keys", nargs="*", metavar="KEY", help="only results whose keys begin with these texts")
    stored.add_argument("--older-than", type=float, metavar="DAYS", help="only results unused for more than DAYS days")
    stored.add_argument("--cache", metavar="DIR", help="default: cache_path of the config")


def _add_run_commands(commands: Any) -> None:
    add = functools.partial(_add, commands)
    train = add(
        "train",
        runs.train,
        "train, evaluate and record one run, or a sweep of them",
        "instruct-lab train",
        "instruct-lab train data=stdlib_functions tuning=full optimizer.lr=2e-5",
        "instruct-lab train -m tuning.r=4,8,16",
        code=True,
    )
    arguments.add_overrides(train)
    arguments.add_multirun(train)
    again = "continue a run, or a sweep, that was interrupted, or make a run longer"
    examples = ("instruct-lab resume latest", "instruct-lab resume latest trainer.max_epochs=5")
    resume = add("resume", runs.resume, again, *examples, code=True)
    arguments.add_run(resume, forced="go on although settings, inputs or code have changed, and record the changes")
    longer = "trainer.max_epochs=N or trainer.max_steps=N: make the run longer"
    resume.add_argument("overrides", nargs="*", metavar="LIMIT", help=longer)
    repeat = "run a recorded config again, as a new run, and compare the results (exit code 1 if they differ)"
    reproduce = add("reproduce", runs.reproduce, repeat, "instruct-lab reproduce latest", code=True)
    arguments.add_run(reproduce, forced="go on although settings or inputs are not the recorded ones")
    listing = add(
        "runs",
        runs.runs,
        "list the recorded runs",
        "instruct-lab runs",
        "instruct-lab runs tuning=lora 'test/chrf>30' --sort test/chrf --reverse",
        json=True,
    )
    conditions = "conditions on any key, choice, metric or cost: tuning=lora test/chrf>30"
    listing.add_argument("query", nargs="*", metavar="CONDITION", help=conditions)
    order = "sort by any of these, smallest first (default: oldest first)"
    listing.add_argument("--sort", metavar="KEY", help=order)
    listing.add_argument("--reverse", action="store_true", help="reverse the order: largest, or newest, first")
    arguments.add_runs_path(listing)
    watch = add("watch", runs.watch, "show a sweep's table while it runs", "instruct-lab watch latest")
    watch.add_argument("sweep", metavar="SWEEP", nargs="?", default="latest", help="its id or folder (default: latest)")
    arguments.add_runs_path(watch)


def _add_comparing_commands(commands: Any) -> None:
    add = functools.partial(_add, commands)
    comparing = add(
        "compare",
        compare.compare,
        "compare runs, or the runs of a sweep, on the examples they share",
        "instruct-lab compare runs/first/RUN_ID runs/second/RUN_ID",
        "instruct-lab compare SWEEP_ID --html comparison.html",
        json=True,
    )
    named = "runs, or one sweep: folder, id or beginning of an id"
    comparing.add_argument("runs_compared", metavar="RUN", nargs="+", help=named)
    comparing.add_argument("--markdown", action="store_true", help="print Markdown")
    metric = "compare only this metric, such as test/chrf (default: all metrics, or the sweep's)"
    comparing.add_argument("--metric", metavar="NAME", help=metric)
    differing = "show N examples on which the two best runs differ (default: 3)"
    comparing.add_argument("--disagreements", type=int, default=3, metavar="N", help=differing)
    page = "write one self-contained page with charts instead of printing"
    comparing.add_argument("--html", metavar="FILE", help=page)
    arguments.add_runs_path(comparing)
    report = add(
        "report",
        compare.report,
        "write a study's report in Markdown: question, command, results, conclusion",
        "instruct-lab report interface_fr --output report.md",
    )
    report.add_argument("study", metavar="STUDY", help="its name: instruct-lab list experiments")
    report.add_argument("--output", metavar="FILE", help="write a file instead of printing")
    arguments.add_runs_path(report)
    dashboard = add(
        "dashboard",
        compare.dashboard,
        "open every recorded run in a page on this machine",
        "instruct-lab dashboard --port 7861 --no-browser",
    )
    dashboard.add_argument("--port", type=int, metavar="N", help="port (default: the first free one from 7860)")
    dashboard.add_argument("--no-browser", action="store_true", help="only print the address")
    arguments.add_runs_path(dashboard)


def _add_using_commands(commands: Any) -> None:
    add = functools.partial(_add, commands)
    generate = add(
        "generate",
        use.generate,
        "print the tuned model's answer",
        "instruct-lab generate latest 'Translate to French: Save all'",
        "instruct-lab generate latest --base --temperature 0.7 --seed 1 'Tell a story'",
        code=True,
    )
    arguments.add_run(generate)
    generate.add_argument("prompt", metavar="PROMPT", nargs="+")
    generate.add_argument("--system", default=None, help="a system message before the prompt")
    generate.add_argument("--base", action="store_true", help="answer with the untuned model")
    use.add_decoding_options(generate)
    arguments.add_checkpoint(generate)
    export = add(
        "export",
        use.export,
        "write the tuned model as a plain Hugging Face folder",
        "instruct-lab export latest my_model",
        code=True,
    )
    arguments.add_run(export)
    export.add_argument("path", metavar="DIR")
    export.add_argument("--keep-adapter", action="store_true", help="write the adapter and its base model's origin")
    arguments.add_checkpoint(export)


if __name__ == "__main__":
    sys.exit(main())
