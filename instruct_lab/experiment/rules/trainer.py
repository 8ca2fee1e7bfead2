"""Rules about the trainer's arguments: which arguments can be set, and which values are valid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from instruct_lab.config import ExternalClass
from instruct_lab.errors import Problem
from instruct_lab.experiment.rules.apply import Components
from instruct_lab.tracker.lightning import missing_package

TRAINER = "pytorch_lightning.Trainer"


@dataclasses.dataclass(frozen=True)
class OwnedArgument:
    """A trainer argument that a config must not set.

    Args:
        reason: why the argument cannot be set, or what to use instead.
        value: the value that the program passes to Lightning in every run; `None` leaves Lightning's default.
    """

    reason: str
    value: Any = None


OWNED_ARGUMENTS = {
    "logger": OwnedArgument("trackers are chosen in the group tracker", value=False),
    "callbacks": OwnedArgument("callbacks are chosen in the group callbacks"),
    "enable_checkpointing": OwnedArgument("checkpoints are chosen in callbacks.checkpoint", value=False),
    "enable_progress_bar": OwnedArgument("the progress line is chosen in callbacks.progress", value=False),
    "enable_model_summary": OwnedArgument("the record holds the parameter counts", value=False),
    "num_sanity_val_steps": OwnedArgument("it would change the random states of a resumed run", value=0),
    "use_distributed_sampler": OwnedArgument("the loaders split the data among devices", value=False),
    "default_root_dir": OwnedArgument("the run record is written below runs_path"),
    "overfit_batches": OwnedArgument("use debug=overfit, which holds the examples fixed"),
    "fast_dev_run": OwnedArgument("use debug=fast, which writes a record too"),
    "barebones": OwnedArgument("use callbacks=none and tracker=none"),
    "reload_dataloaders_every_n_epochs": OwnedArgument("a reloaded loader would lose its position"),
}
"""Trainer arguments that other groups set, or that have the same value in every run."""


UNUSED_ARGUMENTS = {
    "limit_test_batches": "evaluation.max_examples limits the examples that are evaluated",
    "limit_predict_batches": "evaluation.max_examples limits the examples that are evaluated",
    "log_every_n_steps": "every optimizer step is logged",
    "enable_autolog_hparams": "trackers get the whole config",
    "model_registry": "weights are kept in the record; `instruct-lab push` uploads them",
}
"""Trainer arguments that would have no effect, with the reasons; they are refused in new runs, not in old records."""


def fixed_arguments() -> dict[str, Any]:
    """Return the values of the trainer arguments that are the same in every run, keyed by argument name."""
    return {name: owned.value for name, owned in OWNED_ARGUMENTS.items() if owned.value is not None}


def check_target(trainer: ExternalClass) -> Iterator[Problem]:
    """Report a trainer that is not Lightning's `Trainer`."""
    if trainer.target != TRAINER:
        yield Problem(key="trainer._target_", value=trainer.target, reason=f"the trainer has to be {TRAINER}")


def check_owned_arguments(trainer: ExternalClass) -> Iterator[Problem]:
    """Report arguments of the trainer that a config must not set."""
    for name, owned in OWNED_ARGUMENTS.items():
        if name in trainer.arguments:
            reason = f"this argument cannot be set: {owned.reason}"
            yield Problem(key=f"trainer.{name}", value=trainer.arguments[name], reason=reason)


def check_unused_arguments(trainer: ExternalClass) -> Iterator[Problem]:
    """Report arguments of the trainer that would have no effect.

    These include a minimum number of epochs or steps that exceeds the maximum.
    """
    for name, reason in UNUSED_ARGUMENTS.items():
        if name in trainer.arguments:
            value = trainer.arguments[name]
            yield Problem(key=f"trainer.{name}", value=value, reason=f"this argument would have no effect: {reason}")
    for unit in ("epochs", "steps"):
        least, most = (trainer.arguments.get(f"{bound}_{unit}") for bound in ("min", "max"))
        if isinstance(least, int) and isinstance(most, int) and 0 <= most < least:
            reason = f"is above trainer.max_{unit}={most}, which ends the run earlier"
            yield Problem(key=f"trainer.min_{unit}", value=least, reason=reason)


LOWEST = {"accumulate_grad_batches": 1, "max_epochs": 0, "max_steps": 0, "gradient_clip_val": 0, "num_nodes": 1}
UNLIMITED = {"max_epochs": -1, "max_steps": -1, "num_nodes": -1}


def check_counts(trainer: ExternalClass) -> Iterator[Problem]:
    """Report arguments of the trainer (counts and limits) that are below their lowest valid value."""
    for name, lowest in LOWEST.items():
        value = trainer.arguments.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if value < lowest and value != UNLIMITED.get(name):
            yield Problem(key=f"trainer.{name}", value=value, reason=f"expected at least {lowest}")


def check_bound(trainer: ExternalClass) -> Iterator[Problem]:
    """Report a run without a limit on epochs or steps."""
    epochs, steps = trainer.arguments.get("max_epochs"), trainer.arguments.get("max_steps", -1)
    if epochs in (None, -1) and steps in (None, -1):
        reason = "the schedule needs the length of the run: set trainer.max_epochs or trainer.max_steps"
        yield Problem(key="trainer.max_epochs", value=epochs, reason=reason)


def check_loggers(components: Components) -> Iterator[Problem]:
    """Report Lightning loggers whose packages are not installed."""
    for key, chosen in components.items():
        if isinstance(chosen, ExternalClass) and (reason := missing_package(chosen.target)):
            name = chosen.target.rpartition(".")[2]
            yield Problem(key=key, value=name, reason=f"{name} {reason}", kind="unavailable_here")
