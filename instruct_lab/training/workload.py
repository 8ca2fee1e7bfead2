"""The work of a run (its batches, steps and evaluations), measured from its prepared data."""

from __future__ import annotations

import dataclasses
import heapq
import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from instruct_lab.batching import Batch, Example
from instruct_lab.batching.division import divide_lengths
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.settled import settle_answers
from instruct_lab.generation.generation import MAX_ROWS
from instruct_lab.metrics import AnswerMetric, ComparisonMetric, LikelihoodMetric, ValueMetric
from instruct_lab.model.token_budget import tokens_in_memory
from instruct_lab.planning.device import GIB, Device
from instruct_lab.planning.workload import Workload, micro_batches, num_steps
from instruct_lab.training.batch_counts import count_batches, count_validations
from instruct_lab.training.datamodule import InstructionData
from instruct_lab.tuning.prompting import Prompting

if TYPE_CHECKING:
    import numpy

MAX_EPOCHS = 4
"""Number of epochs whose batches are examined; later epochs differ only in the order of the examples."""
MOST_DIVIDED = 1000
"""Number of batches, the largest first, that are divided into parts to find the largest part; others are skipped."""


@dataclasses.dataclass(frozen=True)
class _Order:
    """One device's share of each batch of a split.

    Args:
        batches: for each batch, the indices of the examples in the device's share.
        positions: for each batch, the number of tokens in the share, including padding: `[batches]`.
        targets: for each batch, the number of target tokens in the share: `[batches]`.
    """

    batches: list[numpy.ndarray]
    positions: numpy.ndarray
    targets: numpy.ndarray


def measure_workload(
    experiment: Experiment, data: InstructionData, tokenizer: Any, device: Device, devices: int = 1
) -> Workload:
    """Measure the batches, steps and evaluations of a run.

    Args:
        experiment: the components of the run, built from its config.
        data: the run's prepared data, which holds every split as examples.
        tokenizer: the run's tokenizer.
        device: the device that computes the run.
        devices: number of devices that share a step.
    """
    import numpy as np

    arguments, train = experiment.trainer.arguments, data.examples["train"]
    orders = [_training_order(experiment, data, devices, epoch) for epoch in range(min(MAX_EPOCHS, _epochs(arguments)))]
    per_epoch = count_batches(arguments.get("limit_train_batches"), len(orders[0].batches))
    steps, micro = num_steps(experiment, per_epoch), micro_batches(experiment)
    assert steps is not None
    num_batches = min(steps * micro, max(1, per_epoch) * _epochs(arguments))
    passes = num_batches / len(orders[0].batches)  # over the training examples
    mean = float(np.mean(orders[0].positions[:per_epoch]))

    def batch(order: _Order, index: int, split: str = "train") -> Batch:
        examples = data.examples[split]
        chosen = [_complete(data.corrupt(examples[int(i)], random.Random(int(i)))) for i in order.batches[index]]
        return experiment.batching.divisible_batch(chosen, tokenizer.pad_token_id)

    usual = int(np.argmin(np.abs(orders[0].positions - mean)))
    largest = dict.fromkeys(
        [*(_largest(orders, name) for name in ("positions", "targets")), _largest_part(orders, train, experiment)]
    )
    interval, every_epochs = arguments.get("val_check_interval"), arguments.get("check_val_every_n_epoch", 1)
    validations = count_validations(interval, every_epochs, max(1, per_epoch), num_batches)
    validation, validated = None, 0
    if len(data.examples.get("validation") or ()) and validations:
        limit = experiment.evaluation.batch_tokens
        memory = int(device.memory_gib * GIB)
        limit = limit or tokens_in_memory("cuda" if device.kind == "gpu" else "cpu", memory)
        examples = data.examples["validation"]
        order = _order(experiment, examples, experiment.batching.evaluation_batches(examples, limit, devices), devices)
        count = count_batches(arguments.get("limit_val_batches"), len(order.batches))
        validated = validations * int(order.positions[:count].sum())
        if count:
            validation = batch(order, int(np.argmax(order.positions[:count])), "validation")
    return Workload(
        num_steps=steps,
        micro_batches=micro,
        num_batches=num_batches,
        positions=round(mean * num_batches),
        tokens=round(float(train.lengths.sum()) * passes),
        target_tokens=round(float(train.target_lengths.sum()) * passes),
        usual=batch(orders[0], usual),
        largest=[batch(orders[epoch], index) for epoch, index in largest],
        validation=validation,
        validated=validated,
        **_evaluation(experiment, data, validations if validation is not None else 0, devices),
    )


def _largest(orders: Sequence[_Order], name: str) -> tuple[int, int]:
    """Return the epoch and the index of the largest batch, by the field of `_Order` with this name.

    Args:
        orders: the batches of each epoch.
        name: `positions` or `targets`.
    """
    largest = [getattr(order, name).max() for order in orders]
    epoch = largest.index(max(largest))
    return epoch, int(getattr(orders[epoch], name).argmax())


def _largest_part(orders: Sequence[_Order], examples: Any, experiment: Experiment) -> tuple[int, int]:
    """Return the epoch and the index of the batch that has the largest part, in tokens including padding.

    On a CPU, a batch is divided into parts that are computed one after the other, so that short texts need less
    padding. This function assumes this division on every device.
    """
    widths, most, largest = experiment.batching.widths(examples), 0, (0, 0)
    batches = ((int(size), e, i) for e, order in enumerate(orders) for i, size in enumerate(order.positions))
    for size, epoch, index in heapq.nlargest(MOST_DIVIDED, batches):
        if size <= most:  # no part is larger than its batch
            break
        of = widths[orders[epoch].batches[index]]
        part = max((end - start) * int(of[start:end].max(axis=0).sum()) for start, end in divide_lengths(of))
        if part > most:
            most, largest = part, (epoch, index)
    return largest


def _epochs(arguments: Any) -> int:
    epochs = arguments.get("max_epochs")
    return 10**6 if epochs is None or epochs < 0 else max(1, int(epochs))


def _complete(example: Example) -> Example:
    """Set the base model's log-probabilities of a preference pair, which are not known yet, to 0.

    An example that is not a pair is returned unchanged.
    """
    return dataclasses.replace(example, reference=(0.0, 0.0)) if example.rejected is not None else example


def _training_order(experiment: Experiment, data: InstructionData, devices: int, epoch: int) -> _Order:
    examples, size = data.examples["train"], experiment.batching.batch_size * devices
    loader = experiment.batching.loader(examples, seed=experiment.seed, pad_token_id=0, world_size=devices)
    order = loader.order(epoch)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    return _order(experiment, examples, batches, devices)


def _order(experiment: Experiment, examples: Any, batches: Sequence[numpy.ndarray], devices: int) -> _Order:
    """Count the tokens, including padding, and the target tokens in one device's share of each batch.

    The sequences of a share are either packed or padded to the longest one.
    """
    import numpy as np

    shares = [batch[::devices] for batch in batches]
    widths, targets = experiment.batching.widths(examples), examples.target_lengths
    sides = 2 if experiment.objective.reads == "pairs" else 1
    if experiment.batching.packing is None:
        positions = [len(share) * int(widths[share].max(axis=0).sum()) for share in shares]
    else:
        positions = [int(widths[share].sum()) for share in shares]
    return _Order(shares, np.array(positions), np.array([sides * int(targets[share].sum()) for share in shares]))


def _evaluation(experiment: Experiment, data: InstructionData, validations: int, devices: int) -> dict[str, Any]:
    """Return the fields of `Workload` about the evaluation on each device, and the list of its assumptions.

    The base model is assumed to generate answers of the maximum length, and the tuned model answers as long as the
    references. A finished answer is removed from its batch. Each beam and each sample counts as a separate row. Worked
    examples that the tuning method adds to the prompts are counted for the tuned model only.
    """
    import numpy as np

    evaluation, metrics = experiment.evaluation, experiment.active_metrics.values()
    settled, _ = settle_answers(experiment, data.answer_lengths, None)
    generation = settled.generation
    limit, copies = generation.max_new_tokens or 0, generation.num_beams * generation.num_samples
    answers = experiment.cannot_answer is None and any(isinstance(metric, AnswerMetric) for metric in metrics)
    likelihoods = any(isinstance(metric, LikelihoodMetric | ValueMetric) for metric in metrics)
    shots = experiment.tuning.shots if isinstance(experiment.tuning, Prompting) else 0
    shown = shots * float(np.mean(data.examples["train"].lengths)) if shots else 0.0
    scored = prompts = steps = tokens = 0

    def answer(count: float, length: float, new: float, times: int = 1) -> None:
        nonlocal prompts, steps, tokens
        prompts += times * round(copies * count * length)
        steps += times * math.ceil(copies * count / MAX_ROWS) * limit
        tokens += times * round(copies * count * min(limit, new))

    for split in evaluation.splits:
        examples = data.examples.get(split)
        if examples is None or not len(examples):
            continue
        sources = len(data.sources(split)) if experiment.reports_by_source else 1
        count = min(len(examples), (evaluation.max_examples or len(examples)) * sources) / devices
        length, usual = float(examples.lengths.mean()), float(examples.target_lengths.mean())
        for more, new in [(shown, usual), *([(0.0, float(limit))] if evaluation.before else [])]:
            scored += round(count * (length + more)) if likelihoods else 0
            if answers:
                answer(count, max(1.0, length - usual) + more, new)
    if answers and evaluation.during_examples and validations:
        examples = data.examples["validation"]
        count = min(evaluation.during_examples, len(examples))
        answer(count, float(examples.lengths.mean()), float(examples.target_lengths.mean()), validations)
    rows = max(1, round(tokens / max(1, steps)))
    uncounted = [
        *(["the time of benchmarks is not counted"] if experiment.benchmarks else []),
        *(["the time of judges is not counted"] if any(isinstance(one, ComparisonMetric) for one in metrics) else []),
    ]
    counts = {"scored": scored, "prompts": prompts, "answer_steps": steps, "answer_rows": rows}
    return {**counts, "assumptions": uncounted}
