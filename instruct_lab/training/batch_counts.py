"""Check, before the model is loaded, those settings whose valid values depend on the number of batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from instruct_lab.errors import InstructLabError

if TYPE_CHECKING:
    from instruct_lab.experiment import Experiment
    from instruct_lab.records.schema import SweepEntry


def count_batches(limit: float | None, length: int) -> int:
    """Compute the number of batches that Lightning reads in an epoch.

    Args:
        limit: number of batches (int) or fraction of them (float); `None`: no limit.
        length: number of batches that there are without the limit.
    """
    if limit is None:
        return length
    return min(length, limit) if isinstance(limit, int) else int(length * limit)


def check_batch_counts(trainer: pl.Trainer, train: int, validation: int) -> str | None:
    """Check the trainer's batch limits and validation intervals against the number of batches.

    Args:
        trainer: Lightning's trainer.
        train: number of training batches of an epoch, before limits such as `limit_train_batches`.
        validation: number of validation batches, before limits; 0 without validation examples.

    Returns:
        A warning if the run ends before its first validation; else `None`.

    Raises:
        InstructLabError: a limit leaves no batch, or the interval between validations is longer than an epoch.
    """
    batches = _check_limit("train", trainer.limit_train_batches, train)
    if not batches:
        raise InstructLabError(
            "No batch is left to train on",
            where="trainer.limit_train_batches = 0",
            do="Leave it out, or set trainer.max_steps=0 to measure without training",
        )
    if not validation or not _check_limit("val", trainer.limit_val_batches, validation):
        return None
    every_epochs, interval = trainer.check_val_every_n_epoch, trainer.val_check_interval
    if isinstance(interval, int) and interval > batches and every_epochs is not None:
        raise InstructLabError(
            f"The interval between validations is {interval} batches, and an epoch has only {batches}",
            where=f"trainer.val_check_interval = {interval}",
            do=f"Set it to {batches} or less, to 1.0 for once an epoch, or count across epochs with "
            "trainer.check_val_every_n_epoch=null",
        )
    first = _first_validation(interval, every_epochs, batches)
    total = _total_batches(trainer, batches)
    if first is None or first <= total:
        return None
    return (
        f"nothing is validated while the run trains, and no checkpoint is compared: it ends at batch {total:,}, "
        f"and the first validation would be at batch {first:,} (trainer.val_check_interval and "
        "trainer.check_val_every_n_epoch)."
    )


def check_sweep_metrics(sweep: SweepEntry | None, experiment: Experiment, warning: str | None) -> None:
    """Refuse a run that ends before its first validation, if its sweep needs a value that only validations measure.

    Args:
        sweep: the trial of a sweep that the run belongs to; `None` if there is no sweep.
        experiment: the run's configuration.
        warning: the warning that the run ends before its first validation; `None` if it does not.

    Raises:
        InstructLabError: the run would not measure one of the sweep's metrics.
    """
    if sweep is None or warning is None:
        return
    final = experiment.active_metrics if "validation" in experiment.evaluation.splits else ()
    for metric in sweep.metrics:
        if metric.startswith("val/") and metric.rpartition("/")[2] not in final:
            raise InstructLabError(
                f"The sweep compares its runs by {metric}, but {warning.rstrip('.')}",
                where=f"sweep.metric = {metric}",
                do="validate earlier (trainer.val_check_interval=0.5, for example), train longer, or choose a metric "
                "that is measured after training",
            )


def _check_limit(split: str, limit: float | None, length: int) -> int:
    """Return the number of batches that a limit leaves.

    Raises:
        InstructLabError: the limit is a fraction that leaves less than one batch.
    """
    batches = count_batches(limit, length)
    if not batches and limit:
        raise InstructLabError(
            f"This share leaves less than one of {length} batches",
            where=f"trainer.limit_{split}_batches = {limit}",
            do=f"Set it to at least {math.ceil(1000 / length) / 1000}, or to a number of batches (1)",
        )
    return batches


def count_validations(interval: Any, every_epochs: int | None, batches: int, total: int) -> int:
    """Count the validations of a run; 0 if they are scheduled by time.

    Args:
        interval: the trainer's `val_check_interval`; `None`: once an epoch.
        every_epochs: the trainer's `check_val_every_n_epoch`.
        batches: training batches of an epoch, at least one.
        total: training batches of the whole run.
    """
    between = _batches_between(1.0 if interval is None else interval, batches)
    if between is None:
        return 0
    if every_epochs is None:
        return total // between
    epochs, rest = divmod(total, batches)
    in_last_epoch = 0 if (epochs + 1) % every_epochs else rest // between
    return epochs // every_epochs * (batches // between) + in_last_epoch


def _batches_between(interval: Any, batches: int) -> int | None:
    """Count the training batches between validations; return `None` if validations are scheduled by time."""
    if isinstance(interval, float):
        return max(1, int(batches * interval))
    return interval if isinstance(interval, int) else None


def _first_validation(interval: Any, every_epochs: int | None, batches: int) -> int | None:
    """Count the training batches before the first validation; return `None` if validations are scheduled by time."""
    between = _batches_between(interval, batches)
    if between is None or every_epochs is None:
        return between
    return (every_epochs - 1) * batches + between


def _total_batches(trainer: pl.Trainer, batches: int) -> float:
    """Count the training batches of the whole run.

    The trainer may limit the number of optimizer steps. A step has `accumulate_grad_batches` batches, but the last step
    of an epoch may have fewer.
    """
    epochs, steps = trainer.max_epochs, trainer.max_steps
    by_epochs = batches * epochs if epochs is not None and epochs >= 0 else math.inf
    if steps < 0:
        return by_epochs
    whole_epochs, further_steps = divmod(steps, math.ceil(batches / trainer.accumulate_grad_batches))
    return min(by_epochs, whole_epochs * batches + further_steps * trainer.accumulate_grad_batches)
