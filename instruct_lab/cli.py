"""The command line: one command for each user task. Parsing the arguments imports no heavy library."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Sequence

from instruct_lab import __version__, library_warnings
from instruct_lab.collector import collect_rarely, rare_collections, skip_last_collection
from instruct_lab.commands import (
    arguments,
    cache,
    chat,
    compare,
    configs,
    convert,
    data,
    doctor,
    editors,
    evaluate,
    inference,
    plan,
    push,
    runs,
    show_run,
    use,
)
from instruct_lab.commands.arguments import Command
from instruct_lab.commands.failures import check_working_directory, report_failure, report_lost_output
from instruct_lab.guard import guarded
from instruct_lab.progress import reporting
from instruct_lab.streams import quiet_streams

SPIN_COUNT = "10000"
"""Number of times that torch's CPU threads check for work before they sleep (`GOMP_SPINCOUNT`).

libgomp, which runs these threads, reads the environment variable when torch is imported. With its default of 300,000,
every operation on a shared machine waits for threads that another process has displaced from their cores. With a few
thousand, the threads sleep between the operations of a short training step, and waking them takes a sixth of the step.
See tests/benchmarks/README.md.
"""


COMMANDS = (
    configs,
    plan,
    data,
    cache,
    runs,
    show_run,
    compare,
    use,
    evaluate,
    inference,
    chat,
    push,
    editors,
    convert,
    doctor,
)
"""The modules of commands, in the order of `--help`."""
RECORDING: tuple[Command, ...] = (runs.train, runs.resume, runs.reproduce)
"""Commands that write their results into a record, so that no result is lost if their output cannot be written."""


def main(typed: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    The codes are 0: the command succeeded; 1: it failed while it ran; 2: its arguments or config were refused before it
    ran; 129, 130, 143: a signal stopped it.

    Args:
        typed: the command and its arguments; `None`: those with which this process was started. With `None`, the
            process must end after the command, because the garbage collector's settings are changed for good.
    """
    if typed is None:
        collect_rarely()
        if not {command.__name__ for command in RECORDING} & set(sys.argv[1:2]):
            skip_last_collection()
    return _run(typed)


@guarded
def _run(typed: Sequence[str]) -> int:
    with quiet_streams() as output, rare_collections():
        parsed = _parse(list(typed))
        command: Command = parsed.command
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
        try:
            check_working_directory()
            hidden = contextlib.nullcontext() if parsed.debug else library_warnings.off_screen()
            with hidden, reporting(is_announced=command in RECORDING), _permissions(parsed):
                code = command(parsed)
        except BaseException as error:
            code = report_failure(error, is_debug=parsed.debug, as_json=getattr(parsed, "json", False))
        output.flush()
        if code == 0 and command not in RECORDING:
            code = report_lost_output(output.error)
        return code


def _parse(given: list[str]) -> argparse.Namespace:
    parser = _parser()
    parsed, unknown = parser.parse_known_args(given)
    if unknown:
        command = parsed.parsers[given[0]]
        if not any(text.startswith("-") for text in unknown):
            # argparse ends the list of positional arguments at the first option; here they may also stand after it
            parsed, unknown = command.parse_known_intermixed_args(given[1:], argparse.Namespace(parsers=parsed.parsers))
        if unknown:
            hint = ""
            if hasattr(parsed, "overrides"):
                from instruct_lab.experiment.other_tools import describe_as_overrides

                hint = describe_as_overrides(unknown, given)
            command.error(f"unknown argument: {' '.join(unknown)}{hint}")
    return parsed


def _permissions(parsed: argparse.Namespace) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that grants a command the permissions from `--allow` and from its overrides.

    An override that sets a key to true or to a path grants the permission that this value needs, if any.
    """
    names = getattr(parsed, "allow", [])
    overrides = getattr(parsed, "overrides", []) if hasattr(parsed, "allow") else []
    if not names and not overrides:
        return contextlib.nullcontext()
    from instruct_lab.config.permitted import allow_given

    return allow_given(names, overrides)


@functools.cache
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="instruct-lab",
        description="Fine-tune language models on instructions; every run is a checked composition of config groups.",
        epilog=arguments.format_examples("instruct-lab train experiments=dry_run", "instruct-lab list tuning lora"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"instruct-lab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in COMMANDS:
        module.add_commands(functools.partial(arguments.add_command, commands))
    parser.set_defaults(parsers=commands.choices)  # for the completion of command lines
    return parser


if __name__ == "__main__":
    sys.exit(main())
