"""Memory and communication of a model that is sharded over devices, computed from its simulated steps on one device."""

from __future__ import annotations

from typing import Any

from instruct_lab.model.shares import groups_of
from instruct_lab.planning.step import StepCost


def sharded_peak(step: StepCost, model: Any, devices: int, *, is_training: bool) -> StepCost:
    """Convert the cost of a step on one device to its cost on each of several devices that share a sharded model.

    Each device holds its share of the weights, gradients and optimizer states. In training, parameters are gathered
    from all devices in groups, such as a layer. While one group is computed, the next one is gathered, so a device also
    holds the full weights of the two largest groups, and the full gradients of one group. In validation, each device
    holds the full weights of the model, because they are gathered for the generation of answers.

    Args:
        step: the cost of the step on one device.
        model: the model that is sharded, with its tuning method applied.
        devices: number of devices.
        is_training: whether the step trains; otherwise, it is a validation.
    """
    whole = sum(_bytes(parameter) for parameter in model.parameters())
    groups = sorted((sum(map(_bytes, group)) for group in groups_of(model)), reverse=True)
    trained = [sum(_bytes(one) for one in group if one.requires_grad) for group in groups_of(model)]
    peak = dict(step.peak)
    peak["weights"] += whole // devices - whole + (sum(groups[:2]) if is_training else whole)
    peak["gradients"] = peak["gradients"] // devices + (max(trained) if is_training else 0)
    peak["optimizer"] //= devices
    return StepCost(peak, step.operations, step.update)


def sharded_traffic(model: Any, passes: int) -> int:
    """Return the number of bytes that the devices of a sharded model exchange in an optimizer step.

    For each forward pass and its backward pass, all weights are exchanged twice, and all gradients once.

    Args:
        model: the model that is sharded, with its tuning method applied.
        passes: number of forward passes, each with its backward pass, in the step.
    """
    weights = sum(map(_bytes, model.parameters()))
    return passes * (2 * weights + sum(_bytes(one) for one in model.parameters() if one.requires_grad))


def _bytes(tensor: Any) -> int:
    return int(tensor.numel() * tensor.element_size())
