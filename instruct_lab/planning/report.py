"""Write an estimate of the memory, time and cost of a run or a sweep as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instruct_lab.planning.device import GIB, Device
from instruct_lab.planning.estimate import Estimate
from instruct_lab.planning.remedies import Remedy
from instruct_lab.planning.step import PARTS
from instruct_lab.progress import format_seconds


def report(found: Estimate, device: Device, remedies: Sequence[Remedy], price: float | None) -> list[tuple[str, str]]:
    """Describe an estimate as lines of a report: pairs of a name, such as `memory`, and a text.

    Args:
        found: the estimate.
        device: the device for which the run was estimated.
        remedies: changes that make the run fit.
        price: price of one device for an hour; `None`: no cost is reported.
    """
    count = f"{found.devices} × " if found.devices > 1 else ""
    share = found.trained_parameters / max(1, found.total_parameters)
    parts = ", ".join(
        f"{part} {gib(found.memory[part])}" for part in PARTS if found.memory.get(part, 0) >= found.peak_bytes / 1000
    )
    lines = [
        ("device", f"{count}{device.label}, precision {found.precision}"),
        ("model", f"{found.total_parameters:,} parameters, {found.trained_parameters:,} trained ({share:.2%})"),
        ("memory", f"{memory_text(found)}, at its peak in {found.peak_at}: {parts}"),
    ]
    if found.num_steps is not None and found.trained_parameters:
        each = "" if found.devices == 1 else " on all devices"
        lines.append(
            (
                "training",
                f"{found.num_steps:,} steps, {found.tokens:,} tokens ({found.target_tokens:,} target tokens), "
                f"{found.flops:.3g} FLOPs{each}",
            )
        )
    passes = "forward and backward" if found.trained_parameters else "forward"
    lines.append(("a micro-batch", f"{found.step_flops:.3g} FLOPs, {passes}"))
    if found.times:
        stages = ", ".join(f"{name} {format_seconds(value)}" for name, value in found.times.items())
        lines.append(("time", f"{format_seconds(found.seconds or 0.0)}: {stages}"))
    cost = None if price is None else found.cost(price)
    if cost is not None:
        lines.append(("cost", f"{cost:,.2f} at {price:g} for a device and hour"))
    lines += [("assumed", text) for text in found.assumptions]
    if not found.fits:
        lines += [("to make it fit", _remedy(one, found)) for one in remedies]
        if not remedies:
            text = "no change of batch size, checkpointing, dtype, quantisation or method suffices: take a smaller "
            lines.append(("to make it fit", f"{text}model, shorter examples (batching.max_tokens) or a larger device"))
    return lines


def report_total(
    runs: Mapping[str, Estimate],
    num_runs: int,
    seconds: float | None,
    cost: float | None,
    device: Device,
    assumptions: Sequence[str],
) -> list[tuple[str, str]]:
    """Describe the estimate of a sweep as lines of a report: pairs of a name, such as `total`, and a text.

    Args:
        runs: the estimates of single runs, keyed by the overrides of the run's trial, such as `tuning=full`. Runs that
            need the same time and memory are represented by one of them.
        num_runs: number of all runs of the sweep.
        seconds: duration of all runs, one after another; `None`: unknown.
        cost: cost of all runs; `None`: no price is known.
        device: the device that computes the runs.
        assumptions: sentences, each of which states an assumption that replaces unknown data or settings.
    """
    lines = [("device", device.label)]
    for name, found in runs.items():
        time = "" if found.seconds is None else f", {format_seconds(found.seconds)}"
        lines.append((name or "every run", f"{memory_text(found)}{time}"))
    if seconds is not None:
        lines.append(("total", f"{num_runs:,} runs, {format_seconds(seconds)} one after another"))
    if cost is not None:
        lines.append(("cost", f"{cost:,.2f}"))
    return lines + [("assumed", text) for text in assumptions]


def one_line(found: Estimate, device: Device) -> str:
    """Describe an estimate of a run in one line: its memory, its time if it is known, and the device."""
    time = "" if found.seconds is None else f", about {format_seconds(found.seconds)}"
    return f"{memory_text(found)}{time}, on {device.label}"


def memory_text(found: Estimate) -> str:
    """Describe the largest use of memory, and whether it fits into the memory of the device."""
    verdict = "fits into" if found.fits else "does not fit into"
    return f"{gib(found.peak_bytes)} GiB {verdict} {gib(found.usable_bytes)} GiB"


def _remedy(remedy: Remedy, before: Estimate) -> str:
    changed = remedy.estimate
    time = ""
    if changed.seconds is not None and before.seconds:
        time = f", {changed.seconds / before.seconds:.2f} times the time"
    return f"{' '.join(remedy.overrides)}  ({gib(changed.peak_bytes)} GiB{time}; {remedy.effect})"


def gib(num_bytes: float) -> str:
    """Format a number of bytes in GiB: with three significant digits, or as an integer if it is 1000 GiB or more."""
    return f"{num_bytes / GIB:.3g}" if num_bytes < 1000 * GIB else f"{num_bytes / GIB:,.0f}"
