"""The amount of work in a run: its batches, steps and evaluations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.experiment import Experiment
from instruct_lab.planning.device import Device

if TYPE_CHECKING:
    from instruct_lab.batching import Batch, Example

ASSUMED_TOKENS = 1024
"""Length of an example that is assumed if neither the data nor a limit is known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """The batches and steps of a run on one of its devices.

    A position of a batch is a token or padding; the model computes all of them.

    Args:
        num_steps: number of optimizer steps of the run; `None` if it is unknown without the data.
        micro_batches: number of micro-batches in an optimizer step.
        num_batches: number of training micro-batches in the run.
        positions: number of positions in all training micro-batches.
        tokens: number of tokens in the training examples, on all devices and in all epochs.
        target_tokens: number of target tokens among these tokens.
        usual: a training micro-batch whose number of positions is close to the mean.
        largest: the training micro-batches with the most positions, with the most target tokens, and with the largest
            of the parts into which a CPU divides a batch.
        validation: the largest validation batch; `None` if nothing is validated.
        validated: number of positions in all validation batches, summed over all validations of the run.
        scored: number of positions in the evaluated examples whose likelihood is computed before and after training.
        prompts: number of positions in the prompts that are answered before, during and after training.
        answer_steps: number of decoding steps, each of which generates one token for every prompt of a batch.
        answer_rows: usual number of prompts that are answered together.
        assumptions: sentences, each of which states an assumption that replaces unknown data or settings.
    """

    num_steps: int | None
    micro_batches: int
    num_batches: int
    positions: int
    tokens: int
    target_tokens: int
    usual: Batch
    largest: Sequence[Batch]
    validation: Batch | None = None
    validated: int = 0
    scored: int = 0
    prompts: int = 0
    answer_steps: int = 0
    answer_rows: int = 1
    assumptions: Sequence[str] = ()


def planned_experiment(experiment: Experiment, device: Device) -> Experiment:
    """Return the configuration with which a run is estimated; for a GPU, `batching.share_prefix` is off.

    If several rows of a batch begin with the same prefix, a real run on a GPU may compute this prefix only once. The
    run decides this for each batch, which is not known in advance. So the estimate assumes that the prefix is computed
    for each row, and gives upper limits of memory and time.
    """
    batching: Any = experiment.batching
    if device.kind == "cpu" or getattr(batching, "share_prefix", "off") == "off":
        return experiment
    return dataclasses.replace(experiment, batching=dataclasses.replace(batching, share_prefix="off"))


def micro_batches(experiment: Experiment) -> int:
    """Return the number of micro-batches whose gradients are accumulated in an optimizer step."""
    return int(experiment.trainer.arguments.get("accumulate_grad_batches", 1))


def num_steps(experiment: Experiment, batches: int | None) -> int | None:
    """Return the number of optimizer steps of a run: 0 without training; `None` if it depends on unknown data.

    Args:
        experiment: the run's configuration.
        batches: number of micro-batches in one epoch; `None` if it is unknown.
    """
    if not experiment.tuning.trains:
        return 0
    arguments = experiment.trainer.arguments
    epochs, steps = arguments.get("max_epochs"), arguments.get("max_steps", -1)
    bounds = [steps] if steps is not None and steps >= 0 else []
    if epochs is not None and epochs >= 0 and batches is not None:
        bounds.append(epochs * math.ceil(batches / micro_batches(experiment)))
    return min(bounds) if bounds else None


def assumed_workload(experiment: Experiment, reason: str) -> Workload:
    """Return the workload of a run whose data is unknown.

    All examples are assumed to have `batching.max_tokens` tokens, or `ASSUMED_TOKENS` if there is no such limit.

    Args:
        experiment: the run's configuration.
        reason: why the data is not known, for the list of assumptions.
    """
    batching, steps = experiment.batching, num_steps(experiment, None)
    length = batching.max_tokens or ASSUMED_TOKENS
    batch = batching.divisible_batch([synthetic_example(experiment, length, i) for i in range(batching.batch_size)], 0)
    count = micro_batches(experiment)
    rows = len(batch.input_ids)
    targets = int((batch.labels != -100).sum())
    batches = count * (steps or 0)
    return Workload(
        num_steps=steps,
        micro_batches=count,
        num_batches=batches,
        positions=batches * rows * length,
        tokens=batches * rows * length,
        target_tokens=batches * targets,
        usual=batch,
        largest=[batch],
        assumptions=[
            f"every example has {length:,} tokens, half of them target tokens, because {reason}",
            "nothing is evaluated",
            *([] if steps is not None else ["the number of steps is unknown: set trainer.max_steps for time and cost"]),
        ],
    )


def synthetic_example(experiment: Experiment, length: int, index: int) -> Example:
    """Return an artificial example of a given length for the run's objective and model; half its tokens are targets."""
    from instruct_lab.batching import IGNORED, Example

    half, token = length // 2, 3 + index % 64
    ids = [token] * length  # another token in each row, so that rows share no prefix
    labels: list[int] = [IGNORED] * (length - half) + [token] * half
    if experiment.model.family == "encoder-decoder":
        labels = [token] * half
    reads: Any = experiment.objective.reads
    if reads == "pairs":
        return Example(ids, labels, str(index), "", rejected=Example(ids, labels, str(index)), reference=(0.0, 0.0))
    if reads == "labels":
        return Example(ids, labels, str(index), "", desirable=index % 2 == 0)
    return Example(ids, labels, str(index), "")
