"""Rules about the trainer's arguments: which arguments can be set, and which values are valid."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from instruct_lab.config import ExternalClass
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem
from instruct_lab.experiment.rules.apply import Components
from instruct_lab.model.hardware import emulates_bfloat16, has_gpu
from instruct_lab.tracker.lightning import missing_package

TRAINER = "pytorch_lightning.Trainer"
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
FLOAT16 = ("16", "16-mixed")
"""Lightning's precision names for computing in float16 with float32 weights."""

BFLOAT16 = ("bf16", "bf16-mixed", "bf16-true")
"""Lightning's precision names for computing in bfloat16."""


@dataclasses.dataclass(frozen=True)
class OwnedArgument:
    """A trainer argument that a config must not set.

    Args:
        reason: why the argument cannot be set, or what to use instead.
        value: the argument's value in every run; `None`: Lightning's default is used.
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


def fixed_arguments() -> dict[str, Any]:
    """Return the trainer arguments that have the same value in every run, with their values."""
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


LOWEST = {"accumulate_grad_batches": 1, "max_epochs": 0, "max_steps": 0, "gradient_clip_val": 0}
UNLIMITED = {"max_epochs": -1, "max_steps": -1}


def check_counts(trainer: ExternalClass) -> Iterator[Problem]:
    """Report arguments that are counts or limits and are below their lowest valid value."""
    for name, lowest in LOWEST.items():
        value = trainer.arguments.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if value < lowest and value != UNLIMITED.get(name):
            yield Problem(key=f"trainer.{name}", value=value, reason=f"expected at least {lowest}")


def check_devices(trainer: ExternalClass) -> Iterator[Problem]:
    """Report an accelerator or devices that Lightning does not accept."""
    accelerator = trainer.arguments.get("accelerator", "auto")
    devices = trainer.arguments.get("devices", "auto")
    if isinstance(accelerator, str) and accelerator not in ACCELERATORS:
        reason = f"there is no such accelerator (known: {', '.join(ACCELERATORS)})"
        suggestion = nearest(accelerator, ACCELERATORS)
        yield Problem(key="trainer.accelerator", value=accelerator, reason=reason, suggestion=suggestion)
    if (isinstance(devices, str) and not re.fullmatch(r"auto|-1|\d+(,\d+)*,?", devices)) or devices == 0:
        reason = "expected a number of devices, a list of their indices, or auto"
        yield Problem(key="trainer.devices", value=devices, reason=reason, suggestion="auto")


def check_bound(trainer: ExternalClass) -> Iterator[Problem]:
    """Report a run without a limit on epochs or steps."""
    epochs, steps = trainer.arguments.get("max_epochs"), trainer.arguments.get("max_steps", -1)
    if epochs in (None, -1) and steps in (None, -1):
        reason = "the schedule needs the length of the run: set trainer.max_epochs or trainer.max_steps"
        yield Problem(key="trainer.max_epochs", value=epochs, reason=reason)


def check_float16(trainer: ExternalClass) -> Iterator[Problem]:
    """Report float16 on the CPU, since it needs a GPU."""
    if _uses_float16(trainer) and trainer.arguments.get("accelerator") == "cpu":
        precision = trainer.arguments["precision"]
        reason = "float16 needs a GPU, and trainer.accelerator is cpu: Lightning would silently use bfloat16"
        yield Problem(key="trainer.precision", value=precision, reason=reason, suggestion="bf16-mixed")


def check_bfloat16(trainer: ExternalClass) -> Iterator[Problem]:
    """Warn of bfloat16 on a CPU that has no instructions for it."""
    precision, accelerator = str(trainer.arguments.get("precision")), trainer.arguments.get("accelerator", "auto")
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not has_gpu())
    if precision in BFLOAT16 and on_cpu and emulates_bfloat16():
        reason = "this CPU has no bfloat16 arithmetic, and takes about eight times as long as with float32"
        yield Problem(key="trainer.precision", value=precision, reason=reason, suggestion="32-true", kind="warning")


def _uses_float16(trainer: ExternalClass) -> bool:
    return str(trainer.arguments.get("precision")) in FLOAT16


def check_loggers(components: Components) -> Iterator[Problem]:
    """Report Lightning loggers whose packages are not installed."""
    for key, chosen in components.items():
        if isinstance(chosen, ExternalClass) and (reason := missing_package(chosen.target)):
            name = chosen.target.rpartition(".")[2]
            yield Problem(key=key, value=name, reason=f"{name} {reason}", kind="unavailable_here")
