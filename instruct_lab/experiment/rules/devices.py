"""Rules about devices and precision: which values are valid, and what this machine can compute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from instruct_lab.config import ExternalClass
from instruct_lab.config.spelling import nearest
from instruct_lab.cores import usable_cores
from instruct_lab.errors import ConfigError, Problem
from instruct_lab.launch import external_launch, launch_fault
from instruct_lab.model import Model, hardware
from instruct_lab.optional_packages import missing_reason

ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps", "tpu")
FLOAT16 = ("16", "16-mixed")
"""Lightning's precision names for computing in float16 with float32 weights."""
BFLOAT16 = ("bf16", "bf16-mixed", "bf16-true")
"""Lightning's precision names for computing in bfloat16."""
NEEDS_GPU = "float16 needs a GPU"


def check_devices(trainer: ExternalClass) -> Iterator[Problem]:
    """Report an accelerator or devices that Lightning accepts on no machine.

    Also report several devices if the trainer's strategy computes on one device only.
    """
    accelerator, devices = _accelerator(trainer), _devices(trainer)
    if not isinstance(accelerator, ExternalClass) and accelerator not in ACCELERATORS:
        reason = f"there is no such accelerator (known: {', '.join(ACCELERATORS)})"
        suggestion = nearest(str(accelerator), ACCELERATORS)
        yield Problem(key="trainer.accelerator", value=accelerator, reason=reason, suggestion=suggestion)
    if not _is_valid(devices):
        reason = "expected a number of devices from 1, a list of different indices, or auto"
        yield Problem(key="trainer.devices", value=devices, reason=reason, suggestion="auto")
        return
    strategy = trainer.arguments.get("strategy")
    name = strategy.target if isinstance(strategy, ExternalClass) else str(strategy)
    if re.fullmatch(r"single_\w+|.*\.SingleDevice\w*Strategy", name) and num_devices(trainer) not in (None, 1):
        reason = f"trainer.strategy={name} computes on one device, so that the others would have no effect"
        yield Problem(key="trainer.devices", value=devices, reason=reason, suggestion="1")


def _is_valid(devices: Any) -> bool:
    if isinstance(devices, str):
        return re.fullmatch(r"auto|-1|0*[1-9]\d*|\d+(,\d+)*,|\d+(,\d+)+", devices) is not None
    if isinstance(devices, list):
        indices = [one for one in devices if isinstance(one, int) and one >= 0]
        return bool(devices) and len(set(indices)) == len(devices)
    return not isinstance(devices, int) or devices == -1 or devices >= 1


def _accelerator(trainer: ExternalClass) -> Any:
    return trainer.arguments.get("accelerator", "auto")


def _devices(trainer: ExternalClass) -> Any:
    return trainer.arguments.get("devices", "auto")


def computes_on_cpu(trainer: ExternalClass) -> bool:
    """Whether the trainer computes on the CPU of this machine."""
    accelerator = _accelerator(trainer)
    return accelerator == "cpu" or (
        accelerator in ("auto", None) and not hardware.has_gpu() and not hardware.has_apple_gpu()
    )


def num_devices(trainer: ExternalClass) -> int | None:
    """Return the number of devices on all nodes of a run, or `None` if it is not known before the run starts."""
    nodes, devices = trainer.arguments.get("num_nodes", 1), _devices(trainer)
    on_each: int | None = None
    if isinstance(devices, list):
        on_each = len(devices)
    elif devices in ("auto", -1, "-1") and not computes_on_cpu(trainer):
        on_each = hardware.num_gpus()
    elif devices == "auto":
        on_each = 1
    elif isinstance(devices, int) or (isinstance(devices, str) and devices.isdigit()):
        on_each = int(devices)
    elif isinstance(devices, str) and "," in devices:
        on_each = len(list(filter(None, devices.split(","))))
    if on_each is None or on_each < 1 or not isinstance(nodes, int) or nodes < 1:
        return None
    return on_each * nodes


# ---- what this machine can compute


def check_accelerator_here(trainer: ExternalClass) -> Iterator[Problem]:
    """Report an accelerator that this machine lacks, or a strategy that needs a TPU if this machine has none."""
    accelerator, strategy = _accelerator(trainer), str(trainer.arguments.get("strategy"))
    if reason := accelerator_obstacle(accelerator):
        yield _here("trainer.accelerator", accelerator, reason, "auto")
    elif re.fullmatch(r"(single_)?(xla|tpu)(_debug)?", strategy) and (reason := accelerator_obstacle("tpu")):
        yield _here("trainer.strategy", strategy, f"computes only on a TPU, which {reason}", "auto")


def accelerator_obstacle(accelerator: Any) -> str | None:
    """Return the reason why this machine cannot use an accelerator, or `None` if no reason is known."""
    if accelerator == "tpu":
        return missing_reason("torch_xla")
    if accelerator == "mps" or (accelerator == "gpu" and hardware.has_apple_gpu()):
        return None if hardware.has_apple_gpu() else "there is no Apple GPU here"
    return hardware.no_gpu() if accelerator in ("gpu", "cuda") else None


def check_processes_here(trainer: ExternalClass) -> Iterator[Problem]:
    """For a run on the CPU, report a value of `trainer.devices` other than a number of processes or `auto`.

    Warn if the run starts more processes than there are CPU cores.
    """
    devices = _devices(trainer)
    if not _is_valid(devices) or not computes_on_cpu(trainer) or external_launch() is not None:
        return
    if devices != "auto" and not (isinstance(devices, int | str) and str(devices).isdigit()):
        reason = "a run on the CPU takes a number of processes from 1, since its cores have no indices"
        yield _here("trainer.devices", devices, reason, "1")
    count, cores = num_devices(trainer), len(usable_cores())
    if count is not None and count > cores and trainer.arguments.get("num_nodes", 1) == 1:
        reason = f"starts {count:,} processes, which share {cores} CPU core{'' if cores == 1 else 's'}"
        yield Problem(key="trainer.devices", value=devices, reason=reason, suggestion=str(cores), kind="warning")


def check_launch_here(trainer: ExternalClass) -> Iterator[Problem]:
    """Report an environment variable of torchrun or srun that is missing or is not a valid number."""
    if reason := launch_fault():
        do = "start the command with torchrun or srun, or unset TORCHELASTIC_RUN_ID and the variables of Slurm"
        yield Problem(key="trainer", reason=f"{reason}: {do}", kind="unavailable_here")


def check_nodes_here(trainer: ExternalClass) -> Iterator[Problem]:
    """Warn that a run on several nodes must be started with torchrun or srun, if neither started this process."""
    nodes = trainer.arguments.get("num_nodes", 1)
    if nodes != 1 and external_launch() is None:
        reason = "torchrun or srun has to start `instruct-lab train` on every node (docs/gpus.md)"
        yield Problem(key="trainer.num_nodes", value=nodes, reason=reason, kind="warning")


def check_precision_here(trainer: ExternalClass, model: Model) -> Iterator[Problem]:
    """Report a precision in which this machine cannot compute, and warn of a precision in which it computes slowly."""
    precision = str(trainer.arguments.get("precision"))
    if precision in FLOAT16 and computes_on_cpu(trainer) and _accelerator(trainer) != "cpu":
        reason = f"{NEEDS_GPU}, and {hardware.no_gpu()}: Lightning would silently use bfloat16"
        yield _here("trainer.precision", precision, reason, "32-true")
    if precision.startswith("transformer-engine") and (missing := missing_reason("transformer_engine")):
        yield _here("trainer.precision", precision, missing, "32-true")
    slow = {
        "trainer.precision": (precision if precision in BFLOAT16 else None, "32-true"),
        "model.dtype": (model.dtype if model.dtype == "bfloat16" else None, "float32"),
    }
    for key, (value, suggestion) in slow.items():
        if value is not None and (slowness := _slow_bfloat16(trainer)):
            yield Problem(key=key, value=value, reason=slowness, suggestion=suggestion, kind="warning")


def _slow_bfloat16(trainer: ExternalClass) -> str | None:
    """Return the reason why bfloat16 is slow on the device of a run; `None` if it is fast, or if that is not known."""
    if computes_on_cpu(trainer):
        slow = "this CPU has no bfloat16 arithmetic, and takes about eight times as long as with float32"
        return slow if hardware.emulates_bfloat16() else None
    capability = min(hardware.nvidia_capabilities(), default=0) if hardware.has_gpu() else 0
    if _accelerator(trainer) in ("auto", "gpu", "cuda") and 0 < capability < hardware.BFLOAT16_CAPABILITY:
        return f"a GPU of this machine (compute capability {capability}) has no bfloat16 arithmetic, and emulates it"
    return None


def check_float16(trainer: ExternalClass) -> Iterator[Problem]:
    """Report float16 on the CPU, since it needs a GPU."""
    precision = str(trainer.arguments.get("precision"))
    if precision in FLOAT16 and _accelerator(trainer) == "cpu":
        reason = f"{NEEDS_GPU}, and trainer.accelerator is cpu: Lightning would silently use bfloat16"
        yield Problem(key="trainer.precision", value=precision, reason=reason, suggestion="bf16-mixed")


def _here(key: str, value: Any, reason: str, suggestion: str) -> Problem:
    return Problem(key=key, value=value, reason=reason, suggestion=suggestion, kind="unavailable_here")


def refuse_devices(trainer: ExternalClass) -> None:
    """Raise an error if the trainer cannot use its devices on this machine.

    Call this before changing a run's record.

    Raises:
        ConfigError: the trainer's devices are invalid, this machine lacks them, or an environment variable of torchrun
            or srun is missing or invalid.
    """
    rules = (check_devices, check_launch_here, check_accelerator_here, check_processes_here)
    problems = [problem for rule in rules for problem in rule(trainer) if problem.refuses]
    if problems:
        raise ConfigError(problems)
