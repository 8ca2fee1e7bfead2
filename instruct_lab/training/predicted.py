"""A prediction of a run's memory and time before it trains, to which the measured values are added afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from instruct_lab.errors import one_line
from instruct_lab.model import LoadedModel
from instruct_lab.planning.estimate import estimate
from instruct_lab.planning.report import one_line as describe
from instruct_lab.planning.this_machine import measure_this_machine
from instruct_lab.planning.workload import planned_experiment
from instruct_lab.progress import stage
from instruct_lab.training.costs import Costs
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.training.workload import measure_workload
from instruct_lab.tuning import count_parameters

if TYPE_CHECKING:
    from instruct_lab.training.stages import Run

SHORT_SECONDS = 300.0
"""Runs estimated to be shorter than this are not predicted, since a prediction takes about ten seconds."""
USUAL_FLOPS = {"cpu": 1e11, "cuda": 1e14}
"""Floating-point operations per second of common devices, by type, for a first estimate of a run's duration."""


def predict_costs(run: Run, data: InstructionData, loaded: LoadedModel) -> list[tuple[str, str]]:
    """Estimate the run's memory and time on its device, and write the estimate to the run's record.

    Args:
        run: the run, which is about to train.
        data: the prepared data of the run.
        loaded: the base model.

    Returns:
        A list with one line to print in the overview of the run, as its name `plan` and its text. The list is empty if
        nothing was estimated, for example because the run is short.
    """
    kind, train = run.trainer.strategy.root_device.type, data.examples["train"]
    flops = 6.0 * count_parameters(loaded.model).total * float(train.lengths.sum())  # of an epoch
    flops *= max(1, data.num_steps(run.trainer)) / max(1, data.steps_per_epoch(run.trainer)) / run.trainer.world_size
    if kind not in USUAL_FLOPS or flops / USUAL_FLOPS[kind] < SHORT_SECONDS or not run.record.is_writer:
        return []
    devices = run.trainer.world_size
    try:
        with stage("predicting memory and time"):
            device = measure_this_machine(kind)
            experiment = planned_experiment(run.experiment, device)
            found = estimate(
                experiment,
                measure_workload(experiment, data, run.workspace.tokenizer, device, devices),
                device,
                precision=str(run.trainer.precision),
                devices=devices,
                tokenizer=run.workspace.tokenizer,
                cache_path=run.workspace.cache_path,
            )
    except Exception as error:  # an operation without fake tensors, for example: the run itself can go on
        run.record.log(f"The run was not planned: {one_line(error)}")
        return []
    plan: dict[str, Any] = {
        "device": device.label,
        "peak_memory_bytes": found.peak_bytes,
        "training_seconds": round(found.times.get("training", 0.0) + found.times.get("validation", 0.0), 3),
        "seconds": None if found.seconds is None else round(found.seconds, 3),
    }
    run.record.write_manifest(plan=plan)
    return [("plan", describe(found, device))]


def record_measured(run: Run, costs: Costs) -> None:
    """Add the measured memory and time of training to the prediction in the run's record, if there is one.

    Without a GPU, the memory is that of the process, in which libraries take some hundred MB besides the tensors.
    """
    plan = run.record.manifest.plan
    if plan:
        of = "gpu" if torch.cuda.is_available() else "process"
        measured = {"measured_seconds": round(costs.seconds, 3), f"measured_{of}_bytes": costs.peak_bytes}
        run.record.write_manifest(plan={**plan, **measured})
