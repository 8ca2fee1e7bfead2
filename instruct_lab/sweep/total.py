"""Estimate a whole sweep on a device: the time and cost of all runs together, and the memory of the largest run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from instruct_lab.cache import describe
from instruct_lab.experiment.check import Checked
from instruct_lab.files import user_path
from instruct_lab.model.hardware import no_gpu
from instruct_lab.planning.device import Device
from instruct_lab.planning.estimate import Estimate
from instruct_lab.progress import format_seconds
from instruct_lab.sweep.corners import at_equal_distances
from instruct_lab.sweep.launchers import Processes, Shared
from instruct_lab.sweep.plan import Plan
from instruct_lab.training.plan import plan_checked

MAX_PLANNED = 12
"""Maximum number of different runs that are estimated; each other run is assumed to take the mean time of these."""
MAX_PLANNED_AT_START = 4
"""The same, when a sweep starts."""

MIN_PARAMETERS = 5_000_000
"""Minimum number of model parameters for which a sweep is estimated before it starts."""


@dataclasses.dataclass(frozen=True)
class SweepTotal:
    """The estimated time and memory of all runs of a sweep.

    Args:
        num_runs: number of runs in the sweep.
        num_different: number of points that differ in a setting with an effect on time or memory.
        estimates: estimates of single runs, keyed by the run's overrides. Of several runs that need the same time and
            memory, only one has an estimate.
        seconds: duration of all runs, one after another; `None` if a run's number of steps is unknown.
        assumptions: sentences, each of which states an assumption of the estimate about something unknown.
    """

    num_runs: int
    num_different: int
    estimates: dict[tuple[str, ...], Estimate]
    seconds: float | None
    assumptions: Sequence[str] = ()

    @property
    def largest(self) -> Estimate:
        """The estimate of the run with the largest peak memory."""
        return max(self.estimates.values(), key=lambda found: found.peak_bytes)

    def cost(self, price_per_hour: float) -> float | None:
        """Return the price of all runs together; `None` if their duration is unknown.

        Args:
            price_per_hour: price of one device for an hour.
        """
        return None if self.seconds is None else self.seconds / 3600 * self.largest.devices * price_per_hour

    def to_json(self) -> dict[str, Any]:
        """Convert the estimate to a dictionary for JSON."""
        return {
            "num_runs": self.num_runs,
            "seconds": self.seconds,
            "peak_bytes": self.largest.peak_bytes,
            "fits": self.largest.fits,
            "assumptions": list(self.assumptions),
            "runs": [{"overrides": list(key), **found.to_json()} for key, found in self.estimates.items()],
        }


def estimate_sweep(
    planned: Plan, device: Device, devices: int | None = None, max_planned: int = MAX_PLANNED
) -> SweepTotal:
    """Estimate the time and memory of all runs of a sweep.

    Runs that differ only in settings without effect on time and memory, such as the learning rate, share one estimate.

    Args:
        planned: the plan of the sweep.
        device: the device that computes the runs.
        devices: number of devices of a run; `None`: as many as `trainer.devices` says, or one.
        max_planned: maximum number of estimates, of points at equal distances in the plan. Runs without an estimate are
            assumed to take the mean time of the runs that have one.

    Raises:
        InstructLabError: the architecture of a model is not known.
    """
    different: dict[str, tuple[tuple[str, ...], Checked]] = {}
    keys = []
    for overrides, checked in planned.checked.items():
        key = _cost_key(checked)
        keys.append(key)
        different.setdefault(key, (overrides, checked))
    found: dict[str, Estimate] = {}
    for key in at_equal_distances(list(different), max_planned):
        found[key] = plan_checked(different[key][1], device, devices, remedies=False).estimate
    runs = planned.num_points * planned.settings.seeds
    times = [found[key].seconds for key in keys if key in found]
    known = [one for one in times if one is not None]
    seconds = sum(known) / len(known) * runs if len(known) == len(times) else None
    assumptions = [text for one in found.values() for text in one.assumptions]
    if len(times) < planned.num_points:
        assumptions.append(f"all {planned.num_points} points take the mean time of {len(times)}")
    estimates = {different[key][0]: one for key, one in found.items()}
    return SweepTotal(runs, len(different), estimates, seconds, list(dict.fromkeys(assumptions)))


def _cost_key(checked: Checked) -> str:
    """Return a text with all settings that affect a run's time and memory.

    Runs with the same text need the same time and memory.
    """
    experiment = checked.experiment
    parts: dict[str, Any] = {
        name: describe(getattr(experiment, name))
        for name in ("data", "preprocessing", "template", "batching", "model", "tuning", "objective", "evaluation")
    }
    arguments = {name: value for name, value in experiment.trainer.arguments.items() if name != "gradient_clip_val"}
    parts["others"] = [type(experiment.optimizer).__name__, arguments, sorted(experiment.active_metrics)]
    parts["generation"] = describe(experiment.generation)
    return json.dumps(parts, sort_keys=True, default=str)


def describe_total(planned: Plan) -> str | None:
    """Return a sentence on the time and memory that a sweep will need on this machine.

    The result is `None` if the runs may use other machines, if they cannot be estimated, or if the model is so small
    that an estimate would take longer than a run.
    """
    from instruct_lab.model.facts import least_parameters
    from instruct_lab.planning.architecture import architecture
    from instruct_lab.planning.report import memory_text
    from instruct_lab.planning.this_machine import measure_this_machine

    if not isinstance(planned.launcher, Shared | Processes):
        return None
    try:
        experiment = next(iter(planned.checked.values())).experiment
        fields = architecture(experiment.model, user_path(experiment.cache_path))
        if least_parameters(fields) < MIN_PARAMETERS:
            return None
        on_cpu = no_gpu() or experiment.trainer.arguments.get("accelerator") == "cpu"
        device = measure_this_machine("cpu" if on_cpu else "cuda")
        total = estimate_sweep(planned, device, max_planned=MAX_PLANNED_AT_START)
    except Exception:  # an operation without fake tensors, for example: the sweep itself can go on
        return None
    time = "" if total.seconds is None else f"about {format_seconds(total.seconds)} one after another; "
    num_planned, part = len(total.estimates), ""
    if num_planned < total.num_different:
        part = f" (estimated from {num_planned} of {total.num_different} different runs)"
    return f"planned: {total.num_runs:,} runs, {time}{memory_text(total.largest)}{part}"
