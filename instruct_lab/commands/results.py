"""The results of commands as JSON, for programs that start them with `--json`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from instruct_lab.commands.arguments import Command
from instruct_lab.terminal import write_line

if TYPE_CHECKING:
    from instruct_lab.records import RunRecord
    from instruct_lab.sweep.record import SweepRecord


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The results and the exit code of a command that raised no exception.

    Args:
        value: function that returns the results as JSON values; it is called only for `--json`.
        code: the exit code.
    """

    value: Callable[[], Any]
    code: int = 0


def json_results(command: Callable[[argparse.Namespace], Outcome]) -> Command:
    """Decorate a command so that, with `--json`, its results are written to standard output as JSON.

    Everything else that the command prints then goes to standard error.
    """

    @functools.wraps(command)
    def run(parsed: argparse.Namespace) -> int:
        if not parsed.json:
            return command(parsed).code
        with contextlib.redirect_stdout(sys.stderr):
            outcome = command(parsed)
        write_line(json.dumps(outcome.value(), indent=2, default=str))
        return outcome.code

    return run


def run_to_json(record: RunRecord, **more: Any) -> dict[str, Any]:
    """Describe a run by JSON values, for commands that are typed with `--json`.

    The description has the keys that `instruct-lab runs --json` prints for a run, except `label`. It also has
    `warnings`, and `summary`, which is the content of the record's `summary.json`.

    Args:
        record: the record of the run.
        more: additional keys of the description, with their values.
    """
    from instruct_lab.records.locate import list_run
    from instruct_lab.records.schema import SUMMARY

    entries = {"warnings": record.manifest.warnings, "summary": record.read_json(SUMMARY)}
    return {**list_run(record.path).to_json(), **entries, **more}


def sweep_to_json(sweep: SweepRecord) -> dict[str, Any]:
    """Describe a sweep by JSON values: its status, its metrics with their directions, and its runs.

    Each run has the keys that `instruct-lab runs --json` prints for it, except `label`.
    """
    from instruct_lab.records.locate import list_run

    info = sweep.info
    return {
        "id": sweep.id,
        "name": info.name,
        "status": sweep.status(),
        "path": str(sweep.path),
        "metrics": info.metrics,
        "directions": info.directions,
        "num_runs": info.num_runs,
        "runs": [list_run(run.path).to_json() for run in sweep.runs()],
    }
