"""Start and resume sweeps, for the commands `train` and `resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruct_lab.commands.console import print_references, print_warnings
from instruct_lab.commands.results import Outcome, sweep_to_json
from instruct_lab.progress import stage
from instruct_lab.terminal import wide_console, write_line

if TYPE_CHECKING:
    from instruct_lab.sweep.record import SweepRecord


def start_sweep(overrides: list[str]) -> Outcome:
    """Plan a sweep and run its trials; the exit code is 1 if a trial failed."""
    with stage("planning the sweep"):
        from instruct_lab.sweep.plan import plan

        planned = plan(overrides)
    print_warnings(planned.warnings)
    write_line(planned.describe(), error=True)
    print_references(*(checked.composition.choices for checked in planned.checked.values()), error=True)
    with stage("importing torch, transformers and Lightning"):
        from instruct_lab.sweep.driver import Driver, create
        from instruct_lab.sweep.total import describe_total

    with stage("predicting the time of the sweep"):
        total = describe_total(planned)
    if total is not None:
        write_line(total, error=True)
    sweep = create(planned)
    code = Driver(planned, sweep, wide_console()).run()
    return Outcome(lambda: sweep_to_json(sweep), code)


def resume_sweep(sweep: SweepRecord, force: bool) -> Outcome:
    """Run the remaining trials of a sweep; the exit code is 1 if a trial failed.

    Args:
        sweep: the sweep's record.
        force: whether to continue even if the code, the packages or recorded settings have changed since the start.
    """
    from instruct_lab.sweep.driver import resume

    return Outcome(lambda: sweep_to_json(sweep), resume(sweep, wide_console(), force))
