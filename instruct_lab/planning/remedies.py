"""Find changes of a run's config that make the run fit into the memory of a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.check import Checked, check
from instruct_lab.planning.estimate import Estimate


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A change of a run's config that makes the run fit into the memory of the device.

    Args:
        overrides: overrides to add to the command line.
        effect: description of what the change does besides saving memory.
        estimate: the estimate of the changed run.
    """

    overrides: Sequence[str]
    effect: str
    estimate: Estimate


def find_remedies(checked: Checked, found: Estimate, plan: Callable[[Checked], Estimate]) -> list[Remedy]:
    """Return changes of the config that make a run fit into the device's memory.

    Each change is first tried separately, and the list contains the changes with which the run fits. Of changes with
    the same effect, such as several sizes of micro-batches, only the first that fits is listed. Changes that only
    compute the same optimizer steps in smaller parts come before those with other effects; both are sorted by the time
    that the changed run takes.

    If the run fits with no single change, changes are combined until it fits, starting with those that affect the
    results least. The list then contains only this combination. If no combination fits, the list is empty.

    Args:
        checked: the composed and checked config of the run.
        found: the estimate of the unchanged run.
        plan: function that estimates a run.
    """
    candidates, typed = list(_candidates(checked.experiment, found)), checked.composition.overrides
    remedies: list[Remedy] = []
    for overrides, effect in candidates:
        if remedies and effect == remedies[-1].effect:
            continue  # a smaller batch than necessary
        changed = _estimate(typed, overrides, plan)
        if changed is not None and changed.fits:
            remedies.append(Remedy(overrides, effect, changed))
    if remedies:
        return sorted(remedies, key=lambda one: (one.effect != SAME, one.estimate.seconds or 0.0))
    together: list[str] = []
    effects: list[str] = []
    for overrides, effect in candidates:
        before = _estimate(typed, merge(together, overrides), plan)
        if before is None:
            continue
        together, effects = merge(together, overrides), [*effects, effect]
        if before.fits:
            return [Remedy(together, "; ".join(dict.fromkeys(effects)), before)]
    return []


SAME = "the same optimizer steps, computed in smaller parts"


def _candidates(experiment: Experiment, found: Estimate) -> Iterator[tuple[list[str], str]]:
    """Yield changes that save memory; changes that affect the results of training come last.

    Each item is a tuple: a list of overrides, and a text on what they do besides saving memory.
    """
    held = found.memory["weights"] + found.memory["optimizer"] + found.memory["buffers"]
    if held < found.usable_bytes:  # otherwise no batch is small enough
        if found.peak_at == "validation":
            yield ["evaluation.batch_tokens=512"], SAME
        largest = experiment.batching.micro_batch
        size = experiment.batching.batch_size if largest == "auto" else largest
        while experiment.tuning.trains and experiment.objective.has_independent_examples and size > 1:
            size //= 2
            yield [f"batching.micro_batch={size}"], SAME
    if held < found.usable_bytes and experiment.tuning.trains:
        checkpointing = experiment.model.gradient_checkpointing
        if checkpointing == "none":
            yield ["model.gradient_checkpointing=selective"], "the same results; what is quick is computed twice"
        if checkpointing != "full":
            yield ["model.gradient_checkpointing=full"], "the same results; activations are computed twice"
    if experiment.tuning.is_adapter and experiment.model.dtype == "float32" and not experiment.model.is_quantized:
        yield ["model.dtype=bfloat16"], "frozen weights are rounded to 16 bits"
    if experiment.tuning.is_adapter and not experiment.model.is_quantized:
        yield ["model.quantization=4bit"], "frozen weights are rounded to 4 bits, and products are slower"
    if experiment.tuning.trains and not experiment.tuning.is_adapter:
        yield ["optimizer=adamw_8bit"], "the optimizer's states are rounded to 8 bits"
        yield ["tuning=lora"], "only adapters are trained"


def merge(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Join two lists of overrides; if both set the same key, only the override in `second` is kept."""
    keys = {override.partition("=")[0] for override in second}
    return [*(override for override in first if override.partition("=")[0].lstrip("+") not in keys), *second]


def _estimate(typed: Sequence[str], overrides: Sequence[str], plan: Callable[[Checked], Estimate]) -> Estimate | None:
    """Estimate the run that the `typed` overrides describe, with `overrides` added to them.

    Return `None` if the resulting config is invalid, or its run cannot be estimated.
    """
    try:
        return plan(check(merge(typed, overrides), is_for_another_machine=True).or_refuse())
    except InstructLabError:
        return None
