"""The LightningModule, which turns batches into optimizer steps.

    Lightning's loop                  this module
    for each batch of a step:
      training_step(batch)      ───▶  first batch: clear the gradients and the sums of the step
                                      for each micro-batch (`StepGradients`), on this device only:
                                        objective.loss(model, part) -> Loss(sums, counts), one value per example, nats
                                        add sums and counts to those of the step (`_window`)
                                        backward of the sum of the losses, not of their mean
                                      memory exhausted: the same step again, with micro-batches of half the size
                                ◀───  the sum of the losses, without a graph
      zero_grad, backward             nothing on one device; on several, DDP averages the gradients over the ranks
    once a step:
      on_before_optimizer_step  ───▶  count = sum of all counts, over micro-batches and ranks
                                      gradient *= ranks / count
                                      norm of the gradient; if it or the loss is not finite: `optimizer.nonfinite`
      clip the gradient to `trainer.gradient_clip_val`, optimizer.step, lr_scheduler.step
      callbacks, `StepLog` first ──▶  log_step: loss, learning rate, norm, tokens

The factor `ranks / count` undoes the division by the ranks in DDP, and divides once by the count of the whole step: its
target tokens, or whatever the objective counts. So batch size, accumulation (an incomplete last step too), the size of
micro-batches, padding and the number of devices do not change what is trained.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from instruct_lab.batch_limits import compute_in_parts, current_limits
from instruct_lab.batching import IGNORED, Batch
from instruct_lab.callbacks.training_states import METRICS_SIZE
from instruct_lab.errors import InstructLabError
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.rules.monitoring import monitored_direction
from instruct_lab.model import LoadedModel
from instruct_lab.model.shares import is_sharded, whole
from instruct_lab.objective import Loss
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.training.costs import ComputedPositions
from instruct_lab.training.fitting_size import FittingSize
from instruct_lab.training.micro_batches import LockstepGradients, StepGradients
from instruct_lab.training.nonfinite import NonFiniteSteps
from instruct_lab.training.sharded_states import with_shares
from instruct_lab.training.sharding import ShardedStrategy, fill, gathered, release, shard, without_weights
from instruct_lab.training.sums import Sums
from instruct_lab.training.zero_gradients import ZeroGradients

AnswerMetrics = Callable[[], dict[str, float]]
"""A function that evaluates answers to a few validation examples and returns values, keyed by metric name."""


class TuningModule(pl.LightningModule):
    """The LightningModule that trains one model with one objective.

    Args:
        experiment: the run's configuration.
        loaded: the model with its tuning method applied.
        recorder: writes the measured values to the run's record and the trackers.
        num_steps: optimizer steps of the whole run, for the learning-rate schedule.
        answer_metrics: function that measures answers to a few validation examples at each validation; `None`: answers
            are not evaluated.
        sources: names of the data sources of the validation examples, in the same order on all ranks.
        teacher: the second model that some objectives need; `None` for other objectives.
    """

    def __init__(
        self,
        experiment: Experiment,
        loaded: LoadedModel,
        recorder: Recorder,
        num_steps: int,
        answer_metrics: AnswerMetrics | None = None,
        sources: Sequence[str] = (),
        teacher: Any = None,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # a checkpoint holds only trained weights; the others are the base model's
        self.loaded = loaded
        self.model = loaded.model
        self._experiment = experiment
        self._recorder = recorder
        self.num_steps = num_steps
        self._answer_metrics = answer_metrics
        self._teacher = [teacher]  # in a list, so that it is not a submodule
        self._window = Sums()  # sums of the current step
        self._window_tokens = 0
        self._sources = {source: row for row, source in enumerate(sources or [""])}
        self._validation = Sums(len(self._sources))
        self._nonfinite = NonFiniteSteps(experiment.optimizer.nonfinite, recorder.record)
        self._limits = current_limits()
        micro_batch = experiment.batching.micro_batch
        self._step: StepGradients | LockstepGradients = StepGradients(
            self._add_gradients,
            self._discard_gradients,
            self._limits,
            FittingSize(self.model, lambda batch: self._loss(self.trainer.precision_plugin.convert_input(batch)).sums),
            largest=None if micro_batch == "auto" else micro_batch,
            is_divisible=experiment.objective.has_independent_examples,
        )
        self._gradient_norm = torch.tensor(0.0)
        self._zeros = ZeroGradients()
        self.positions = ComputedPositions()
        self.num_target_tokens = 0  # target tokens trained on since the start of the run, on all devices
        self._step_started = time.perf_counter()
        self.tokens_per_second = 0.0
        self.train_loss = math.nan
        self._train_values: dict[str, float] = {}

    def configure_model(self) -> None:
        """Shard the model if the strategy is `fsdp`; Lightning calls this after all processes have started."""
        if not isinstance(self.trainer.strategy, ShardedStrategy) or is_sharded(self.model):
            return
        self._template = without_weights(self.loaded)
        shard(self.model, self.trainer.strategy.device_mesh["data_parallel"])
        micro_batch = self._experiment.batching.micro_batch
        largest = None if micro_batch == "auto" else micro_batch
        self._step = LockstepGradients(self._add_gradients, self._discard_gradients, self._repeat_passes, largest)

    def configure_optimizers(self) -> Any:
        """Create the optimizer for the trained parameters, and a schedule that advances at every optimizer step."""
        factor = self._experiment.tuning.learning_rate_factor
        optimizer: Any = self._experiment.optimizer.build(self.model.named_parameters(), factor)
        scheduler = self._experiment.lr_scheduler.build(optimizer, self.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # ---- training

    def on_train_start(self) -> None:
        """Switch to training mode, and set the learning rate of the next step.

        The rate is set here because a resumed run may be longer than before: the restored training state still holds
        the learning rate of the shorter run's schedule.
        """
        self.model.train()
        factor = self._experiment.lr_scheduler.factor(self.trainer.global_step, self.num_steps)
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            for group, peak in zip(scheduler.optimizer.param_groups, scheduler.base_lrs, strict=True):
                group["lr"] = peak * factor
        self._step_started = time.perf_counter()

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Add a batch's gradients to those of the optimizer step, and return the batch's summed loss in nats."""
        self._limits.step = self.trainer.global_step + 1
        loss = self._step.add(batch)
        if self.trainer.world_size == 1 or is_sharded(self.model) or not self.step_ended:
            return loss
        return loss + self._zeros.zero(self.parameters())

    def _add_gradients(self, batch: Batch) -> Tensor:
        """Add the gradients, losses and counts of a micro-batch to those of the step, and return its summed loss."""
        batch = self.trainer.precision_plugin.convert_input(batch)
        loss = self._loss(batch)
        summed = loss.sums.sum()
        with torch.autocast(self.device.type, enabled=False):  # Lightning runs a training step inside it
            self.trainer.strategy.backward(summed, None)
        self.positions.add(self.model, batch)
        self._window.add(loss)
        self._nonfinite.add(batch.ids, loss.sums)
        self._window_tokens += int((batch.chosen.labels != IGNORED).sum())
        return summed.detach()

    def _repeat_passes(self, batch: Batch) -> None:
        """Run the forward and backward passes of a micro-batch with a loss of 0, to keep pace with the other ranks."""
        loss = self._loss(self.trainer.precision_plugin.convert_input(batch))
        with torch.autocast(self.device.type, enabled=False):
            self.trainer.strategy.backward(loss.sums.sum() * 0.0, None)

    def _discard_gradients(self) -> None:
        self.zero_grad()
        self._window.clear()
        self._nonfinite.forget()
        self._window_tokens = 0

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Do nothing: Lightning calls this after `training_step`, which has added gradients already."""

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Run the backward pass if the loss has an autograd graph; `training_step` returns such a loss only for DDP."""
        if loss.requires_grad:
            loss.backward(*args, **kwargs)

    def _loss(self, batch: Batch) -> Loss:
        """Compute the loss of each example; examples without target tokens, which only fill up a batch, have loss 0."""
        loss = self._experiment.objective.loss(self.model, batch, self._teacher[0])
        is_used = (batch.labels != IGNORED).any(dim=1)[: batch.num_examples]
        values = {name: value.masked_fill(~is_used, math.nan) for name, value in loss.values.items()}
        return dataclasses.replace(loss, sums=loss.sums * is_used, counts=loss.counts * is_used, values=values)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the step's summed gradient by what the objective counts, usually the target tokens of the step.

        This happens before the gradient is clipped.

        Raises:
            InstructLabError: the loss or the gradient is not finite, and `optimizer.nonfinite` is `stop`.
        """
        totals = self._summed_over_devices(self._window.table)[0]
        of_step = torch.tensor(
            [float(self._window_tokens), float(self._step.num_reductions), *self._zeros.has_gradient]
        )
        num_tokens, num_reductions, *num_users = map(int, self._summed_over_devices(of_step).tolist())
        self._zeros.remove_unused(num_users)
        if num_reductions and self.trainer.world_size > 1:
            self._step.agree_on_size()
        self._step.end()
        loss_sum, count = totals[:2].tolist()
        scale = self.trainer.world_size / (count or 1.0)
        gradients = [parameter.grad for parameter in parameters_of(optimizer) if parameter.grad is not None]
        torch._foreach_mul_(gradients, scale)
        self._gradient_norm = whole(torch.nn.utils.get_total_norm(gradients))
        scales_loss = self.trainer.precision == "16-mixed"  # its scaler skips steps with infinite gradients itself
        norm = 0.0 if scales_loss else float(self._gradient_norm)
        is_finite = math.isfinite(loss_sum) and math.isfinite(norm)
        if not is_finite:
            self._nonfinite.handle(self.trainer.global_step + 1, loss_sum, norm, self.model.named_parameters())
            num_tokens = 0  # nothing is trained on them
        self._nonfinite.clear(is_finite=is_finite)
        self.num_target_tokens += num_tokens
        now = time.perf_counter()
        self.tokens_per_second = num_tokens / max(1e-9, now - self._step_started)
        self._step_started = now
        self._train_values = self._window.means("train", totals, is_likelihood=False)
        self.train_loss = self._train_values["train/loss"]
        self._learning_rate = optimizer.param_groups[0]["lr"]

    def log_step(self) -> None:
        """Write the values of an optimizer step, such as loss and learning rate, to the run's record and the trackers.

        Nothing is written if the current batch did not complete a step.
        """
        if not self.step_ended:
            return
        values = {
            **self._train_values,
            "train/lr": self._learning_rate,
            "train/gradient_norm": float(self._gradient_norm),
            "train/target_tokens": float(self.num_target_tokens),
            "train/target_tokens_per_second": self.tokens_per_second,
        }
        self.log("train/loss", self.train_loss, logger=False)
        self._recorder.log(values, step=self.trainer.global_step, epoch=self.trainer.current_epoch)

    @property
    def step_ended(self) -> bool:
        """Whether the current batch completed an optimizer step."""
        return not self.trainer.fit_loop.epoch_loop._should_accumulate()

    # ---- validation

    def on_validation_epoch_start(self) -> None:
        """Reset the validation sums."""
        self._validation.clear()

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Add the losses and counts of a batch to the sums of the validation."""
        indices = range(batch.num_examples)

        def compute(of_part: Sequence[int]) -> tuple[Loss, list[str]]:
            part = self.trainer.precision_plugin.convert_input(batch.part(of_part[0], of_part[-1] + 1))
            return self._loss(part), part.sources

        width = batch.input_ids.numel() // batch.num_examples
        losses = compute_in_parts(
            "validation",
            indices,
            compute,
            size=lambda part: width * len(part),
            is_divisible=self._experiment.objective.has_independent_examples and not is_sharded(self.model),
        )
        release(self.model)
        for loss, sources in losses:
            self._validation.add(loss, torch.tensor([self._sources.get(name, 0) for name in sources]))

    def on_validation_epoch_end(self) -> None:
        """Write mean loss, answer metrics and, for a negative log-likelihood, perplexity to record and trackers."""
        by_source = self._summed_over_devices(self._validation.table)
        is_likelihood = self._experiment.objective.is_likelihood
        values = self._validation.means("val", by_source.sum(dim=0), is_likelihood)
        if self._experiment.reports_by_source and len(self._sources) > 1:
            for source, sums in zip(self._sources, by_source, strict=True):
                values |= self._validation.means(f"val/{source}", sums, is_likelihood)
        if self._answer_metrics is not None:
            with gathered(self.model):
                values |= {f"val/{name}": value for name, value in self._answer_metrics().items()}
        for name, value in values.items():  # callbacks such as early stopping read these
            self.log(name, torch.tensor(value, dtype=torch.float64), logger=False, sync_dist=False)
        self._recorder.log(values, step=self.trainer.global_step, epoch=self.trainer.current_epoch)
        self._step_started = time.perf_counter()

    def _summed_over_devices(self, values: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return values.clone()
        on_device = values.to(self.device, dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        return self.trainer.strategy.reduce(on_device, reduce_op="sum").cpu().double()

    # ---- checkpoints

    def weights_writer(self, is_writer: bool) -> Callable[[Path], None]:
        """Return a function that writes the trained weights to a new folder.

        Every rank must call this method, since it gathers the weights if they are sharded.

        Args:
            is_writer: whether this rank will write the weights.
        """
        loaded = fill(self._template, self.model, is_writer) if is_sharded(self.model) else self.loaded
        return functools.partial(self._experiment.tuning.save, loaded)

    def direction(self, name: str) -> Literal["min", "max"]:
        """Return `min` if smaller values of the metric with this name are better, otherwise `max`."""
        return monitored_direction(self._experiment, name) or "min"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remove frozen weights from the checkpoint; add the target-token count and the size of `metrics.jsonl`."""
        trained = {f"model.{name}" for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in trained}
        checkpoint["num_target_tokens"] = self.num_target_tokens
        checkpoint[METRICS_SIZE] = self._recorder.record.metrics_size()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint has every trained parameter, and restore the number of target tokens so far.

        Raises:
            InstructLabError: a trained parameter is missing.
        """
        checkpoint.update(with_shares(checkpoint, Path(str(self.trainer.ckpt_path)).parent))
        trained = {f"model.{name}" for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        missing = trained - set(checkpoint["state_dict"])
        if missing:
            raise InstructLabError(
                f"The checkpoint lacks {len(missing)} of {len(trained)} trained parameters, among them {min(missing)}",
                do="resume with the config that wrote it",
            )
        self.num_target_tokens = checkpoint["num_target_tokens"]


def parameters_of(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """Return the parameters of an optimizer, in the order of its parameter groups."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
