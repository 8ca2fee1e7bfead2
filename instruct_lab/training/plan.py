"""The plan of a run: an estimate of its memory, time and cost on a device, made from its prepared data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instruct_lab.data import Audit
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.check import Checked
from instruct_lab.experiment.rules.devices import BFLOAT16, num_devices
from instruct_lab.files import user_path
from instruct_lab.planning.device import Device
from instruct_lab.planning.estimate import Estimate, estimate
from instruct_lab.planning.remedies import Remedy, find_remedies
from instruct_lab.planning.workload import Workload, assumed_workload, planned_experiment
from instruct_lab.progress import stage
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.workload import measure_workload
from instruct_lab.training.workspace import Workspace

PRECISION = "trainer.precision"


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """The plan of a run.

    Args:
        estimate: the estimated memory, time and cost of the run.
        remedies: alternative changes of the config that make the run fit into memory. Changes that only compute the
            same optimizer steps in smaller parts come before the others; within both groups, faster runs come first.
            Empty if the run fits unchanged, or if no known change suffices.
    """

    estimate: Estimate
    remedies: Sequence[Remedy] = ()


def plan_checked(checked: Checked, device: Device, devices: int | None = None, *, remedies: bool = True) -> RunPlan:
    """Estimate the memory, time and cost of a run on a device; if memory is short, find config changes that help.

    Args:
        checked: the checked config, which has no problems.
        device: the device that computes the run.
        devices: number of devices; `None`: the number in `trainer.devices`, or one if the config gives no number.
        remedies: whether to search for changes of the config if the run does not fit into the device's memory.

    Raises:
        InstructLabError: the architecture of the model is not known, or the device does not support the precision.
    """
    _check_precision(checked, device)
    count = devices or _devices(checked.experiment) or 1
    measure = read_data(checked.experiment, device, count)

    def plan(checked: Checked) -> Estimate:
        experiment = planned_experiment(checked.experiment, device)
        workload, tokenizer = measure(experiment)
        return estimate(
            experiment,
            workload,
            device,
            precision=precision_on(checked, device),
            devices=count,
            tokenizer=tokenizer,
            cache_path=user_path(experiment.cache_path),
        )

    with stage("executing the steps of the run without values"):
        found = plan(checked)
    if found.fits or not remedies:
        return RunPlan(found)
    with stage("looking for changes that make the run fit"):
        return RunPlan(found, find_remedies(checked, found, plan))


def _devices(experiment: Experiment) -> int | None:
    """Return the number of devices in the config; `None` if the run uses all devices of its machine."""
    is_named = experiment.trainer.arguments.get("devices", "auto") not in ("auto", -1, "-1")
    return num_devices(experiment.trainer) if is_named else None


def _check_precision(checked: Checked, device: Device) -> None:
    precision = precision_on(checked, device)
    if precision in BFLOAT16 and device.kind == "gpu" and "bfloat16" not in device.teraflops:
        raise InstructLabError(
            f"The device {device.label} has no bfloat16 arithmetic, and trainer.precision is {precision}",
            where="trainer.precision",
            do="choose 16-mixed or 32-true",
        )


def precision_on(checked: Checked, device: Device) -> str:
    """Return the value of Lightning's `precision` for a run on a device.

    This is the value that a config file or an override sets. If none of them does, it is the precision that suits the
    device.
    """
    set_by_user = checked.experiment.trainer.arguments.get("precision")
    return device.precision if PRECISION in checked.composition.derived else str(set_by_user or device.precision)


def read_data(experiment: Experiment, device: Device, devices: int) -> Callable[[Experiment], tuple[Workload, Any]]:
    """Prepare a run's data, and return a function that measures the workload of runs with this data.

    The function takes a run's components, and returns the run's workload and its tokenizer. If the data or the
    tokenizer cannot be read or downloaded, the workload is based on assumed lengths of examples, and the tokenizer may
    be `None`. This also applies if the tokenizer is in the same file as the weights and this file is not on this
    machine, since weights are never downloaded for a plan.

    Args:
        experiment: the components of the run, built from its config.
        device: the device that computes the run.
        devices: number of devices that share a step.
    """
    cache_path, reason, data, tokenizer = user_path(experiment.cache_path), "", None, None
    if not _has_tokenizer(experiment, cache_path):
        reason = "its tokenizer is in the file of the weights, which is not on this machine"
    else:
        try:
            tokenizer = Workspace(experiment).tokenizer
            data = InstructionData(experiment, tokenizer, cache_path, Audit())
        except InstructLabError as error:
            missing = "the tokenizer" if tokenizer is None else "the data"
            reason = f"{missing} is not on this machine: {error.what[0].lower()}{error.what[1:].rstrip('.')}"

    def measure(of: Experiment) -> tuple[Workload, Any]:
        if data is None:
            return assumed_workload(of, reason), tokenizer
        return measure_workload(of, data, tokenizer, device, devices), tokenizer

    return measure


def _has_tokenizer(experiment: Experiment, cache_path: Path) -> bool:
    """Whether the tokenizer can be read without downloading weights."""
    from instruct_lab.model.weights import GGUF, Hub, PackageFolder

    weights = experiment.model.weights
    in_weights = isinstance(weights, GGUF | PackageFolder) or (isinstance(weights, Hub) and weights.gguf_file)
    return not in_weights or bool(weights.read_architecture(cache_path, experiment.model.family))
