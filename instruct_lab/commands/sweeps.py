"""Start and resume sweeps, for the commands `train` and `resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instruct_lab.commands.console import print_warnings
from instruct_lab.progress import stage
from instruct_lab.terminal import wide_console, write_line

if TYPE_CHECKING:
    from instruct_lab.sweep.record import SweepRecord


def start_sweep(overrides: list[str]) -> int:
    """Plan a sweep and run its trials; return 1 if a trial failed, else 0."""
    with stage("planning the sweep"):
        from instruct_lab.sweep.plan import plan

        planned = plan(overrides)
    print_warnings(planned.warnings)
    write_line(planned.describe(), error=True)
    with stage("importing torch, transformers and Lightning"):
        from instruct_lab.sweep.driver import Driver, create

    return Driver(planned, create(planned), wide_console()).run()


def resume_sweep(sweep: SweepRecord, force: bool) -> int:
    """Run the remaining trials of a sweep; return 1 if a trial failed, else 0."""
    from instruct_lab.sweep.driver import resume

    return resume(sweep, wide_console(), force)
