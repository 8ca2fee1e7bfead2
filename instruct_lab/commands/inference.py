"""The command `inference-cost`: speed and memory of a run's model, with the adapter merged or kept separate."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from instruct_lab.commands import arguments
from instruct_lab.commands.arguments import AddCommand
from instruct_lab.commands.console import print_permissions
from instruct_lab.commands.recorded import load_recorded
from instruct_lab.commands.results import Outcome, json_results
from instruct_lab.errors import InstructLabError
from instruct_lab.progress import stage
from instruct_lab.terminal import wide_console

if TYPE_CHECKING:
    from instruct_lab.chat.inference_cost import InferenceCost


LEAST = {"prompt_tokens": 1, "new_tokens": 2, "batch": 1, "repeats": 1}
"""The smallest valid value of each numeric option, keyed by the option's name."""


@json_results
def inference_cost(parsed: argparse.Namespace) -> Outcome:
    """Measure the speed and memory of a run's model, write the results into the run's record, and print them."""
    _check(parsed)
    with stage("instruct-lab inference-cost: reading the record"):
        record, experiment, _ = load_recorded(parsed, uses_trackers=False, uses_data=False)
    print_permissions(experiment)
    with stage("importing torch, transformers and Lightning"):
        from instruct_lab.chat.answering import answering_device
        from instruct_lab.chat.inference_cost import FILE, Workload, measure_inference

    workload = Workload(parsed.prompt_tokens, parsed.new_tokens, parsed.batch, parsed.repeats)
    device = answering_device()
    costs = measure_inference(experiment, record, workload, device)
    _print(costs, f"{device}: {workload.batch} prompts of {workload.prompt_tokens} tokens at the same time")
    wide_console().print(f"written: {record.path / FILE}", soft_wrap=True)
    return Outcome(lambda: [dataclasses.asdict(one) for one in costs])


def _check(parsed: argparse.Namespace) -> None:
    """Raise an error if the value of an option, such as `--batch 0`, is too small for a measurement."""
    for name, least in LEAST.items():
        value = getattr(parsed, name)
        if value < least:
            option = f"--{name.replace('_', '-')}"
            what = f"{option} {value} cannot be measured"
            raise InstructLabError(what, where=option, do=f"give a number from {least}")


def _print(costs: list[InferenceCost], title: str) -> None:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for heading in ("prompt tokens/s", "new tokens/s", "slowest to fastest", "weights", "peak memory"):
        table.add_column(heading, justify="right")
    for one in costs:
        table.add_row(
            one.form,
            f"{one.prompt_tokens_per_second:,.0f}",
            f"{one.new_tokens_per_second:,.1f}",
            f"{one.slowest:,.1f} to {one.fastest:,.1f}",
            f"{one.weights_bytes / 1e6:,.1f} MB",
            f"{one.peak_bytes / 1e6:,.0f} MB",
        )
    wide_console().print(table)


def add_commands(add: AddCommand) -> None:
    """Add `inference-cost` to the command line."""
    parser = add(
        "inference-cost",
        inference_cost,
        "measure speed and memory of a run's model: untuned, with its adapter, and merged",
        "instruct-lab inference-cost latest",
        "instruct-lab inference-cost latest --batch 8 --prompt-tokens 512 --new-tokens 128 --json",
        json=True,
        code=True,
    )
    arguments.add_run(parser)
    parser.add_argument("--prompt-tokens", type=int, default=128, metavar="N", help="tokens of each prompt (128)")
    parser.add_argument("--new-tokens", type=int, default=64, metavar="N", help="tokens of each answer (64)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="prompts answered at the same time (1)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="measurements, whose median is shown (3)")
