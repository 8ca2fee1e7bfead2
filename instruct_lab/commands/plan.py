"""The command `plan`: estimated memory, time and cost of a run on a device, which this machine need not have."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.errors import InstructLabError
from instruct_lab.progress import stage
from instruct_lab.terminal import wide_console, write_line

if TYPE_CHECKING:
    from instruct_lab.planning.device import Device


def plan(parsed: argparse.Namespace) -> int:
    """Print the estimated memory, time and cost of one run or of a sweep.

    The estimate is also printed for a run that needs more memory than the device has.
    """
    _check_arguments(parsed)
    with stage("instruct-lab plan: loading the libraries"):
        from instruct_lab.planning.catalogue import find_device

        device = find_device(parsed.device)
        from instruct_lab.experiment.check import check
        from instruct_lab.files import user_path
        from instruct_lab.planning.remembered import remember
        from instruct_lab.planning.report import one_line, report
        from instruct_lab.sweep.plan import describes_sweep
        from instruct_lab.training.plan import plan_checked
    if parsed.multirun:
        return _plan_sweep(parsed, device)
    checked = check(parsed.overrides, is_for_another_machine=True)
    if describes_sweep(checked):
        return _plan_sweep(parsed, device)  # a study in which something varies
    found = plan_checked(checked.or_refuse(), device, parsed.devices)
    remember(checked.resolved, user_path(checked.experiment.cache_path), one_line(found.estimate, device))
    cost = None if parsed.price_per_hour is None else found.estimate.cost(parsed.price_per_hour)
    if parsed.json:
        remedies = [
            {"overrides": list(one.overrides), "effect": one.effect, **one.estimate.to_json()} for one in found.remedies
        ]
        write_line(json.dumps({**found.estimate.to_json(), "cost": cost, "remedies": remedies}, indent=2))
        return 0
    _print(report(found.estimate, device, found.remedies, parsed.price_per_hour))
    return 0


def _plan_sweep(parsed: argparse.Namespace, device: Device) -> int:
    from instruct_lab.planning.report import report_total
    from instruct_lab.sweep import plan as sweep
    from instruct_lab.sweep.total import estimate_sweep

    planned = sweep.plan(parsed.overrides, is_for_another_machine=True)
    total = estimate_sweep(planned, device, parsed.devices)
    cost = None if parsed.price_per_hour is None else total.cost(parsed.price_per_hour)
    if parsed.json:
        write_line(json.dumps({**total.to_json(), "cost": cost}, indent=2))
        return 0
    write_line(planned.describe())
    runs = {" ".join(o for o in key if o not in planned.base): found for key, found in total.estimates.items()}
    _print(report_total(runs, total.num_runs, total.seconds, cost, device, total.assumptions))
    return 0


def _print(lines: list[tuple[str, str]]) -> None:
    from instruct_lab.experiment.overview import overview_table

    wide_console().print(overview_table(lines))


def _check_arguments(parsed: argparse.Namespace) -> None:
    if parsed.devices is not None and parsed.devices < 1:
        what = f"A run needs at least one device, and {parsed.devices} were given"
        raise InstructLabError(what, where="--devices", do="give a number from 1")
    if parsed.price_per_hour is not None and not 0 <= parsed.price_per_hour < float("inf"):
        what = f"{parsed.price_per_hour} is no price"
        raise InstructLabError(what, where="--price-per-hour", do="give the price of one device for an hour")


def add_commands(add: AddCommand) -> None:
    """Add `plan` to the command line."""
    parser = add(
        "plan",
        plan,
        "estimate memory, computation, time and cost of a run on a device that need not be here",
        "instruct-lab plan",
        "instruct-lab plan tuning=full trainer.max_steps=1000 --device a100-40gb --devices 8 --price-per-hour 1.5",
        "instruct-lab plan -m tuning.r=4,8 --device t4 --json",
        json=True,
        code=True,
    )
    arguments.add_overrides(parser)
    arguments.add_multirun(parser)
    names = "h100-80gb, a100-40gb, rtx4090, t4, another file in instruct_lab/planning/devices, cpu (this machine, "
    parser.add_argument("--device", default="cpu", metavar="NAME", help=f"{names}the default), or a YAML file")
    parser.add_argument(
        "--devices", type=int, metavar="N", help="number of devices that share each step (data parallel)"
    )
    price = "price of one device for an hour, in any currency"
    parser.add_argument("--price-per-hour", type=float, metavar="X", help=price)
