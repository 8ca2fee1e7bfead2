"""Execute a run's steps on tensors without values; the operations have the same order as in Lightning."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from instruct_lab.batching import Batch
from instruct_lab.batching.division import divide_batch
from instruct_lab.batching.example import IGNORED
from instruct_lab.experiment import Experiment
from instruct_lab.planning.meter import Meter, Operation
from instruct_lab.planning.optimizer_states import build_optimizer
from instruct_lab.planning.skeleton import Skeleton

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers")
"""The categories into which memory in use is divided.

- `weights`: frozen and trained weights.
- `gradients`: gradients of the trained weights.
- `optimizer`: states of the optimizer.
- `activations`: intermediate results, including those that the backward pass needs.
- `logits`: outputs over the vocabulary.
- `buffers`: the model's buffers, batches, and averages of the weights.
"""
AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Lightning's precisions that compute in 16 bits and do not convert the weights."""
WHOLE = {"bf16-true": torch.bfloat16, "16-true": torch.float16}
"""Lightning's precisions that compute in 16 bits and also convert the weights to 16 bits."""


@dataclasses.dataclass(frozen=True)
class StepCost:
    """The memory and the operations of one step of training or validation.

    Args:
        peak: bytes at the moment of the largest use, keyed by category, such as `weights` or `activations` (`PARTS`).
        operations: list of the operations that one batch's forward pass and, in training, its backward pass perform.
        update: list of the operations that the optimizer's update performs; empty in validation.
    """

    peak: dict[str, int]
    operations: Sequence[Operation]
    update: Sequence[Operation] = ()

    @property
    def peak_bytes(self) -> int:
        """The largest number of bytes in use at the same time, over all categories."""
        return sum(self.peak.values())

    @property
    def flops(self) -> int:
        """Number of floating-point operations in `operations`; only matrix products are counted."""
        return sum(operation.flops for operation in self.operations)


class StepSimulator:
    """A simulator of the steps of one run, which keeps gradients and optimizer states from one step to the next.

    A run without training has no optimizer, and only `evaluate` and `predict` can be called.

    Args:
        experiment: the run's configuration.
        skeleton: the run's models, whose weights have shapes but no values.
        precision: name of the precision in Lightning, such as `bf16-mixed`.
        extra_copies: number of copies of the trained weights that callbacks or Lightning's strategy keep in memory.
        divides: whether a training batch may be divided into parts to save padding, as training on a CPU does.
    """

    def __init__(
        self,
        experiment: Experiment,
        skeleton: Skeleton,
        precision: str,
        extra_copies: int = 0,
        divides: bool = True,
    ) -> None:
        self._divides = divides and experiment.objective.has_independent_examples
        self._experiment, self._skeleton, self._precision = experiment, skeleton, precision
        self._model = skeleton.loaded.model
        if precision in WHOLE:
            self._model.to(WHOLE[precision])
        self._meter = Meter(skeleton.vocabulary)
        models = [self._model] if skeleton.teacher is None else [self._model, skeleton.teacher]
        for model in models:
            for parameter in model.parameters():
                self._meter.hold(parameter, "weights")
            for buffer in model.buffers():
                self._meter.hold(buffer, "buffers")
        self._trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._kept = [torch.empty_like(p) for _ in range(extra_copies) for p in self._trained]
        for tensor in self._kept:
            self._meter.hold(tensor, "buffers")
        for parameter in self._trained:
            parameter.register_post_accumulate_grad_hook(self._hold_gradient)
        if experiment.tuning.trains:
            factor = experiment.tuning.learning_rate_factor
            with self._meter, self._meter.phase("optimizer"):
                self._optimizer: Any = build_optimizer(experiment.optimizer, self._model.named_parameters(), factor)

    def _hold_gradient(self, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        self._meter.hold(parameter.grad, "gradients")

    def train(self, batch: Batch, micro_batches: int = 1) -> StepCost:
        """Execute one optimizer step, and return its cost.

        Args:
            batch: the batch. It is computed in parts of at most `batching.micro_batch` examples, if this is a number.
            micro_batches: how many times the batch is computed to accumulate gradients before the optimizer's update.
        """
        return self._train(batch, self._parts(batch), micro_batches)

    def train_at_peak(self, batch: Batch, micro_batches: int = 1) -> StepCost:
        """Execute only as much of an optimizer step as decides its peak memory; the operations are incomplete.

        Executed are the first part of the batch, which creates the gradients, and the largest parts. If gradients are
        accumulated, the batch is computed twice, since every further time needs the same memory as the second.

        Args:
            batch: the batch, as for `train`.
            micro_batches: how many times the batch is computed before the optimizer's update.
        """
        parts = self._parts(batch)
        sizes = [_sizes(part) for part in parts]
        largest = (max(range(len(parts)), key=lambda index: sizes[index][by]) for by in range(len(sizes[0])))
        return self._train(batch, [parts[index] for index in sorted({0, *largest})], min(micro_batches, 2))

    def _parts(self, batch: Batch) -> list[Batch]:
        """Divide a batch into the parts that are computed one after the other."""
        largest = self._experiment.batching.micro_batch
        size = batch.num_examples if largest == "auto" else largest
        return [part for of in (divide_batch(batch) if self._divides else [batch]) for part in of.parts(size)]

    def _train(self, batch: Batch, parts: Sequence[Batch], micro_batches: int) -> StepCost:
        self._model.train()
        meter, clip = self._start(batch), self._experiment.trainer.arguments.get("gradient_clip_val")
        with meter:
            self._optimizer.zero_grad()
            for part in [*parts] * micro_batches:
                with self._autocast():
                    loss = self._experiment.objective.loss(self._model, part, self._skeleton.teacher)
                loss.sums.sum().backward()
                del loss
            operations, meter.operations = meter.operations, []
            with meter.phase("optimizer"):
                gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
                torch._foreach_mul_(gradients, 0.5)
                torch.nn.utils.get_total_norm(gradients)
                del gradients
                if clip:
                    torch.nn.utils.clip_grad_norm_(self._trained, float(clip))
                self._optimizer.step()
        return StepCost(self._peak(), operations[: len(operations) // micro_batches], meter.operations)

    def evaluate(self, batch: Batch) -> StepCost:
        """Execute one validation step between training steps, with optimizer states in memory, and return its cost."""
        self._model.eval()
        meter = self._start(batch)
        with meter, torch.no_grad(), self._autocast():
            self._experiment.objective.loss(self._model, batch, self._skeleton.teacher)
        return StepCost(self._peak(), meter.operations)

    def predict(self, rows: int) -> Sequence[Operation]:
        """Return the operations that generate one token for each of `rows` sequences at once.

        Operations that read the key-value cache are not included.
        """
        self._model.eval()
        ids = torch.full((rows, 1), 3)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self._skeleton.loaded.family == "encoder-decoder":
            inputs["decoder_input_ids"] = ids
        meter = self._meter
        meter.operations = []
        with meter, torch.no_grad(), self._autocast():
            self._model(**inputs, use_cache=False)
        return meter.operations

    def _start(self, batch: Batch) -> Meter:
        meter = self._meter
        meter.operations = []
        for field in dataclasses.fields(batch):
            value = getattr(batch, field.name)
            if isinstance(value, torch.Tensor):
                meter.hold(value, "buffers")
        meter.reset_peak()
        return meter

    def _peak(self) -> dict[str, int]:
        return {part: self._meter.peak[part] for part in PARTS}

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        dtype = AUTOCAST.get(self._precision)
        return contextlib.nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype)


def _sizes(part: Batch) -> tuple[int, int, int]:
    """Return the numbers of positions, of computed positions if prefixes are shared, and of target tokens."""
    positions = part.input_ids.numel()
    computed = positions if part.prefixes is None else part.prefixes.num_positions
    return positions, computed, int((part.labels != IGNORED).sum())


def seconds(operations: Iterable[Operation], device: Any) -> float:
    """Return the time that operations take on a device, one after another.

    An operation takes the longer of two times: the time to compute its floating-point operations, and the time to move
    its data from and to memory. On a CPU, the time to start the operation is added. A GPU starts an operation while
    earlier ones still run; there, an operation takes at least the time to start it.

    Args:
        operations: the operations.
        device: a `Device`.
    """
    bandwidth = device.gigabytes_per_second * 1e9
    start = device.microseconds_per_operation / 1e6
    works = (max(one.flops / device.flops_per_second(one.width), one.moved / bandwidth) for one in operations)
    return sum(work + start if device.kind == "cpu" else max(work, start) for work in works)
