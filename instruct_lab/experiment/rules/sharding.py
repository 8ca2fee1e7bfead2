"""Rules about models that are split over devices: what can be sharded, and which strategies are not supported."""

from __future__ import annotations

import re
from collections.abc import Iterator

from instruct_lab.callbacks import Callback, WeightAverage
from instruct_lab.config import ExternalClass
from instruct_lab.config.spelling import nearest
from instruct_lab.errors import Problem
from instruct_lab.model import Model
from instruct_lab.optimizer import Optimizer
from instruct_lab.tuning import Tuning

FSDP = "fsdp"
"""The strategy that shards a model over devices: PyTorch's FSDP2."""
EXACT_PRECISIONS = ("None", "32", "32-true", "bf16-mixed")
"""Values of `trainer.precision` that a sharded model supports; its weights are float32 with all of them."""
UNSUPPORTED = {
    r"fsdp_tp|tp|tensor_parallel|.*\.ModelParallelStrategy": (
        "tensor parallelism needs a plan of each architecture's layers, and its sums are not those of one device",
        FSDP,
    ),
    r"(cp|context_parallel|sequence_parallel|ulysses|ring_attention)": (
        "context parallelism splits the positions of a text over devices, and neither packed rows nor the selection of "
        "target positions can be split so; a text has to fit on each device",
        FSDP,
    ),
    r"deepspeed(_\w+)?|.*\.DeepSpeedStrategy": (
        "DeepSpeed divides and clips gradients inside of its engine, before the target tokens of a step on all devices "
        "are known, so its steps are not those of one device; fsdp shards the same tensors",
        FSDP,
    ),
    r"fsdp_\w+|.*\.FSDPStrategy": ("this is PyTorch's first FSDP, which is replaced by the second", FSDP),
    r"ddp_(spawn|fork|notebook)\w*": ("it trains in processes that return no results", "ddp"),
}
"""Strategies that are not supported: why not, and which strategy to choose instead, keyed by a regular expression."""
STRATEGIES = ("auto", "ddp", FSDP)
NAMES = frozenset(
    {
        *(*STRATEGIES, "None", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"),
        *("single_device", "single_tpu", "single_xla", "xla", "xla_debug"),
    }
)
"""Names of the supported strategies: the strategies of Lightning that no expression in `UNSUPPORTED` matches."""


def check_split(trainer: ExternalClass) -> Iterator[Problem]:
    """Report a `trainer.strategy` that does not exist or is not supported."""
    strategy = trainer.arguments.get("strategy")
    name = strategy.target if isinstance(strategy, ExternalClass) else str(strategy)
    for pattern, (reason, suggestion) in UNSUPPORTED.items():
        if re.fullmatch(pattern, name):
            yield Problem(key="trainer.strategy", value=name, reason=reason, suggestion=suggestion)
            return
    if not isinstance(strategy, ExternalClass) and name not in NAMES:
        reason = f"there is no such strategy (usual ones: {', '.join(STRATEGIES)})"
        yield Problem(key="trainer.strategy", value=name, reason=reason, suggestion=nearest(name, STRATEGIES))


def check_sharded_trainer(trainer: ExternalClass) -> Iterator[Problem]:
    """Report a precision or a way of clipping gradients that is not supported for a model sharded over devices."""
    if trainer.arguments.get("strategy") != FSDP:
        return
    precision = str(trainer.arguments.get("precision"))
    if precision not in EXACT_PRECISIONS:
        reason = "a sharded model (trainer.strategy=fsdp) keeps its weights and gradients in float32"
        yield Problem(key="trainer.precision", value=precision, reason=reason, suggestion="bf16-mixed")
    if (algorithm := trainer.arguments.get("gradient_clip_algorithm")) == "value":
        reason = "the gradient of a sharded model (trainer.strategy=fsdp) is clipped by its norm only"
        yield Problem(key="trainer.gradient_clip_algorithm", value=algorithm, reason=reason, suggestion="norm")


def check_sharded_choices(
    trainer: ExternalClass,
    model: Model,
    tuning: Tuning,
    optimizer: Optimizer,
    callbacks: dict[str, Callback | ExternalClass],
) -> Iterator[Problem]:
    """Report a model, tuning method, optimizer or callback that cannot be used with `trainer.strategy=fsdp`."""
    if trainer.arguments.get("strategy") != FSDP:
        return
    do = "; choose another one, or trainer=ddp, which needs the memory for the whole model on each device"
    if model.is_quantized:
        reason = "quantised weights cannot be sharded (trainer.strategy=fsdp): several weights share a number"
        yield Problem(key="model.quantization", value=str(model.quantization), reason=reason, suggestion="null")
    if model.compile:
        reason = "compiled layers cannot be sharded (trainer.strategy=fsdp): their parameters are gathered outside them"
        yield Problem(key="model.compile", value=True, reason=reason, suggestion="false")
    if "cut_cross_entropy" in model.kernel_packages:
        reason = "cut_cross_entropy reads the whole output projection, which trainer.strategy=fsdp shards"
        yield Problem(key="model.kernels", value=model.kernels, reason=reason, suggestion="none")
    if tuning.sharding_obstacle is not None:
        method = type(tuning).__name__
        reason = f"{method} cannot be sharded (trainer.strategy=fsdp): {tuning.sharding_obstacle}"
        yield Problem(key="tuning", value=method, reason=reason + do)
    if not optimizer.is_elementwise:
        name = type(optimizer).__name__
        reason = f"{name} reads whole matrices, and with trainer.strategy=fsdp each device has only a share of them"
        yield Problem(key="optimizer", value=name, reason=reason + do)
    for name, callback in callbacks.items():
        if isinstance(callback, WeightAverage):
            reason = "an average of sharded weights (trainer.strategy=fsdp) could not be resumed on other devices"
            yield Problem(key=f"callbacks.{name}", value="WeightAverage", reason=reason + "; leave the callback out")
