"""Estimate memory, computation, time and cost of a run on a device."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instruct_lab.callbacks import WeightAverage
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.rules.sharding import FSDP
from instruct_lab.model.weights.library_calls import own_seed
from instruct_lab.planning.device import Device
from instruct_lab.planning.sharded_memory import sharded_peak, sharded_traffic
from instruct_lab.planning.skeleton import build_skeleton
from instruct_lab.planning.step import StepCost, StepSimulator, seconds
from instruct_lab.planning.workload import Workload

START_SECONDS = 20.0
"""Assumed seconds to import libraries, to read the prepared data and the weights, and to write the record."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """The estimated memory, computation and time of one run; memory is given for each single device.

    Args:
        device: name of the device.
        devices: number of devices that compute each optimizer step together.
        precision: name of the precision in Lightning, such as `bf16-mixed`.
        total_parameters: number of parameters.
        trained_parameters: number of trained parameters.
        memory: bytes in use at the moment of the largest use, keyed by category, such as `weights` or `activations`.
        peak_at: what is computed at that moment: `training` or `validation`, or `evaluation` in a run without training.
        usable_bytes: bytes that tensors can use on the device.
        num_steps: number of optimizer steps; `None`: unknown.
        tokens: number of tokens in all training examples, in all epochs.
        target_tokens: number of target tokens among these tokens.
        flops: floating-point operations of training, on all devices.
        step_flops: floating-point operations of a micro-batch of average size on one device.
        times: seconds of each stage of the run, such as `training`; empty if the number of steps is unknown.
        assumptions: sentences, each of which states an assumption that replaces unknown data or settings.
    """

    device: str
    devices: int
    precision: str
    total_parameters: int
    trained_parameters: int
    memory: Mapping[str, int]
    peak_at: str
    usable_bytes: int
    num_steps: int | None
    tokens: int
    target_tokens: int
    flops: int
    step_flops: int
    times: Mapping[str, float]
    assumptions: Sequence[str] = ()

    @property
    def peak_bytes(self) -> int:
        """The largest number of bytes that are in use at the same time on each device."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the run fits into the memory of the device."""
        return self.peak_bytes <= self.usable_bytes

    @property
    def seconds(self) -> float | None:
        """The duration of the run; `None` if the number of steps is unknown."""
        return sum(self.times.values()) if self.times else None

    def cost(self, price_per_hour: float) -> float | None:
        """Return the cost of the run, given the price of one device for an hour; `None` if its duration is unknown."""
        return None if self.seconds is None else self.seconds / 3600 * self.devices * price_per_hour

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as a dictionary that can be written as JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["memory"], values["times"] = dict(self.memory), {k: round(v, 3) for k, v in self.times.items()}
        more = {"peak_bytes": self.peak_bytes, "fits": self.fits, "seconds": self.seconds}
        return {**values, "assumptions": list(self.assumptions), **more}


def estimate(
    experiment: Experiment,
    workload: Workload,
    device: Device,
    *,
    precision: str,
    devices: int = 1,
    tokenizer: Any = None,
    cache_path: Path,
) -> Estimate:
    """Estimate the memory, the computation and the time of a run on a device.

    The states of the random number generators are restored afterwards.

    Args:
        experiment: the run's configuration.
        workload: the batches and steps of the run.
        device: the device that computes it.
        precision: name of the precision in Lightning.
        devices: number of devices that compute each optimizer step together.
        tokenizer: the run's tokenizer; `None` if it is not on this machine.
        cache_path: folder for downloads and conversions.

    Raises:
        InstructLabError: the model's architecture is not known.
    """
    with own_seed(0):
        return _estimate(experiment, workload, device, precision, devices, tokenizer, cache_path)


def _estimate(
    experiment: Experiment,
    workload: Workload,
    device: Device,
    precision: str,
    devices: int,
    tokenizer: Any,
    cache_path: Path,
) -> Estimate:
    skeleton = build_skeleton(experiment, cache_path, tokenizer)
    total, trained = skeleton.count_parameters()
    averages = sum(isinstance(callback, WeightAverage) for callback in experiment.callbacks.values())
    is_sharded = devices > 1 and experiment.trainer.arguments.get("strategy") == FSDP
    copies, divides = averages + (devices > 1 and not is_sharded), device.kind == "cpu" and not is_sharded
    simulator = StepSimulator(experiment, skeleton, precision, copies, divides)
    if experiment.tuning.trains:
        usual = simulator.train(workload.usual, workload.micro_batches)
        steps = {"training": [simulator.train_at_peak(batch, workload.micro_batches) for batch in workload.largest]}
    else:
        usual = simulator.evaluate(workload.usual)
        steps = {"evaluation": [simulator.evaluate(batch) for batch in workload.largest]}
    if workload.validation is not None:
        steps["validation"] = [simulator.evaluate(workload.validation)]
    if is_sharded and experiment.tuning.trains:
        model = skeleton.loaded.model
        steps = {
            name: [sharded_peak(step, model, devices, is_training=name == "training") for step in of]
            for name, of in steps.items()
        }
    peaks = {name: max(of, key=lambda step: step.peak_bytes) for name, of in steps.items()}
    peak_at = max(peaks, key=lambda name: peaks[name].peak_bytes)
    positions = _positions(workload.usual)
    times: dict[str, float] = {}
    if workload.num_steps is not None:
        examples, largest = workload.usual.num_examples, experiment.batching.micro_batch
        passes = workload.micro_batches * (1 if largest == "auto" else math.ceil(examples / largest))
        exchanged = sharded_traffic(skeleton.loaded.model, passes) if is_sharded else 2 * 4 * trained
        times = _times(simulator, workload, device, usual, positions, _exchange_seconds(device, devices, exchanged))
    scale = workload.positions / positions * devices
    del simulator, skeleton
    gc.collect()  # hooks and modules refer to each other
    return Estimate(
        device=device.name,
        devices=devices,
        precision=precision,
        total_parameters=total,
        trained_parameters=trained if experiment.tuning.trains else 0,
        memory=peaks[peak_at].peak,
        peak_at=peak_at,
        usable_bytes=int(device.usable_bytes),
        num_steps=workload.num_steps,
        tokens=workload.tokens,
        target_tokens=workload.target_tokens,
        flops=round(usual.flops * scale) if experiment.tuning.trains else 0,
        step_flops=usual.flops,
        times=times,
        assumptions=workload.assumptions,
    )


def _times(
    simulator: StepSimulator,
    workload: Workload,
    device: Device,
    usual: StepCost,
    positions: int,
    exchange_seconds: float,
) -> dict[str, float]:
    """Compute the seconds that each stage of a run takes, such as training or validation, keyed by the stage's name.

    The time for one position (a token or padding) is taken from a batch of average size, and multiplied by the number
    of positions in the stage.

    Args:
        simulator: the simulator, which executes the run's steps on tensors without values.
        workload: the batches and steps of the run.
        device: the device that computes the run.
        usual: the cost of a training step (in a run without training, of an evaluation) with the batch of average size.
        positions: number of positions of this batch.
        exchange_seconds: seconds in which the devices exchange weights or gradients, for each optimizer step.
    """
    batch = workload.usual
    forward = seconds(simulator.evaluate(batch).operations, device) / positions  # a position
    times = {"start and end": START_SECONDS}
    if workload.num_steps:
        training = seconds(usual.operations, device) / positions * workload.positions
        times["training"] = training + workload.num_steps * (seconds(usual.update, device) + exchange_seconds)
    times["validation"] = forward * workload.validated
    times["evaluation"] = forward * (workload.scored + workload.prompts)
    if workload.answer_steps:
        times["evaluation"] += workload.answer_steps * seconds(simulator.predict(workload.answer_rows), device)
    return {name: value for name, value in times.items() if value}


def _exchange_seconds(device: Device, devices: int, exchanged: int) -> float:
    """Return the seconds that devices connected in a ring need to exchange a number of bytes.

    Of n devices, each sends (n - 1) / n of the bytes. The result is 0 if the bandwidth between devices is not known.

    Args:
        device: one of the devices, which are all of the same type.
        devices: number of devices.
        exchanged: number of bytes to exchange.
    """
    if devices == 1 or device.interconnect_gigabytes_per_second is None:
        return 0.0
    return (devices - 1) / devices * exchanged / (device.interconnect_gigabytes_per_second * 1e9)


def _positions(batch: Any) -> int:
    """Return the number of positions (tokens or padding) that the model computes for a batch.

    In an encoder-decoder, the positions of the decoder are added to those of the encoder.
    """
    if batch.packing is not None:
        return int(batch.attention_mask.sum())
    own = batch.labels.numel() if batch.labels.shape != batch.input_ids.shape else 0
    return int(batch.input_ids.numel() + own)
