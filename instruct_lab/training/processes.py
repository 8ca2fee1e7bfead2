"""The processes of a multi-device run, and the division of a step's examples between them."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import ParallelStrategy
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher

from instruct_lab.errors import InstructLabError
from instruct_lab.evaluation.ranks import first_rank_value
from instruct_lab.experiment import Experiment
from instruct_lab.experiment.rules.devices import accelerator_obstacle
from instruct_lab.launch import external_launch, is_first_process
from instruct_lab.terminal import write_line

AUTO = ("auto", -1, "-1", None)
"""Values of `trainer.devices` and `trainer.num_nodes` with which the config gives no fixed number."""
VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
"""Environment variables that Lightning sets in the first process.

If they were still set in a later run of this process, Lightning would not start the other processes of that run.
"""


def check_launch(arguments: Mapping[str, Any]) -> None:
    """Refuse a config with several nodes if no launcher, such as torchrun, has started processes on them.

    Args:
        arguments: the trainer's arguments in the config.

    Raises:
        InstructLabError: the config asks for several nodes, and only this process was started.
    """
    nodes = arguments.get("num_nodes", 1)
    if nodes != 1 and external_launch() is None:
        raise InstructLabError(
            f"trainer.num_nodes is {nodes}, and only this process was started",
            where="trainer.num_nodes",
            do="start the command with torchrun or srun, which start the processes on all nodes (see docs/gpus.md)",
        )


def sizes_of_launch(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's arguments that fit the processes that a launcher, such as torchrun, has started.

    An example is `devices`, the number of these processes on each node. Only arguments that the config leaves open,
    such as `devices: auto`, are returned.

    Args:
        arguments: the trainer's arguments in the config.

    Returns:
        The arguments by name; an empty dictionary if no launcher has started several processes.

    Raises:
        InstructLabError: several nodes are needed, and no launcher has started processes on them.
    """
    check_launch(arguments)
    launch, nodes = external_launch(), arguments.get("num_nodes", 1)
    if launch is None:
        return {}
    found: dict[str, Any] = {}
    if arguments.get("devices", "auto") in AUTO:
        found["devices"] = launch.num_per_node
    if "num_nodes" not in arguments or nodes in AUTO:
        found["num_nodes"] = launch.num_nodes
    if launch.program == "srun" and not arguments.get("plugins"):
        found["plugins"] = [SLURMEnvironment(auto_requeue=False)]  # its handler would replace those of a run
    return found


def on_one_device(experiment: Experiment) -> Experiment:
    """Return a copy of the experiment that uses a single process on one device.

    If `trainer.devices` is a list of device indices, it is kept, and this process uses the first one. If this machine
    lacks the accelerator, the process uses another device, and a line on standard error names the reason.
    """
    arguments = {**experiment.trainer.arguments, "num_nodes": 1, "strategy": "auto"}
    if reason := accelerator_obstacle(arguments.get("accelerator")):
        wanted = f"trainer.accelerator={arguments['accelerator']}"
        write_line(f"evaluated on another device than the run's ({wanted}: {reason})", error=True)
        arguments |= {"accelerator": "auto", "devices": 1}
    if not isinstance(arguments.get("devices"), list):
        arguments["devices"] = 1
    return dataclasses.replace(experiment, trainer=dataclasses.replace(experiment.trainer, arguments=arguments))


def check_processes(trainer: pl.Trainer) -> None:
    """Refuse a trainer whose processes cannot be started, or cannot return their results.

    On several devices, each process executes the program from its beginning. This is impossible in a notebook or an
    interactive session.

    Raises:
        InstructLabError: the trainer needs processes that cannot be started or would lose their results, or the number
            of processes that it needs differs from the number that a launcher has started.
    """
    launcher = trainer.strategy.launcher
    is_program = hasattr(sys.modules["__main__"], "__file__")
    launch = external_launch()
    do = "set trainer.devices=1, or train with strategy ddp from the command line or from a script"
    if launch is not None and trainer.world_size != launch.num_processes:
        found = f"{launch.program} has started {launch.num_processes} processes, and the run has {trainer.world_size}"
        do = "leave trainer.devices and trainer.num_nodes out, and choose trainer=ddp or trainer=fsdp"
    elif isinstance(launcher, _MultiProcessingLauncher):
        found = f"The strategy {type(trainer.strategy).__name__} trains in processes whose results would be lost"
    elif isinstance(launcher, _SubprocessScriptLauncher) and trainer.num_devices > 1 and not is_program:
        found = f"{trainer.num_devices} devices need as many processes, which an interactive session cannot start"
    else:
        return
    raise InstructLabError(found, where="trainer.strategy and trainer.devices", do=do)


def join_processes(trainer: pl.Trainer) -> None:
    """Start the other processes of a multi-device run, or join those that another program has started.

    Lightning would do this later, in `trainer.fit`, but the processes also share the evaluation before training. Each
    process that this process starts executes the same command from its beginning, and joins the process group here.
    """
    strategy = trainer.strategy
    if isinstance(strategy.launcher, _SubprocessScriptLauncher):
        strategy.launcher.launch(strategy.setup_environment, trainer=trainer)
    elif isinstance(strategy, ParallelStrategy):
        strategy.setup_environment()


def leave_processes() -> None:
    """If the process group has only this process, destroy the group, so that a later run can start another one.

    A group that a launcher has started is kept.
    """
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() == 1 and external_launch() is None:
        dist.destroy_process_group()
        for name in VARIABLES:
            os.environ.pop(name, None)


def stop_other_ranks(trainer: pl.Trainer) -> None:
    """Kill the processes that this process has started for a run that failed, as they may be waiting for this one."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        for process in launcher.procs:
            process.kill()


def value_of_first_process(compute: Callable[[], Path], build: Callable[[], pl.Trainer]) -> Path:
    """Compute a path in the first process, and return it in all processes that a launcher has started.

    Args:
        compute: function that the first process calls.
        build: function that creates the trainer, with which the processes join each other.

    Raises:
        InstructLabError: `compute` raised this error in the first process; all processes then raise it.
    """
    if not dist.is_initialized():
        join_processes(build())
    value: Any = None
    if is_first_process():
        try:
            value = compute()
        except InstructLabError as error:
            value = error
    value = first_rank_value(value)
    if isinstance(value, InstructLabError):
        raise value
    path: Path = value
    return path


def divide_steps(experiment: Experiment, recorded: int | None, now: int) -> Experiment:
    """Adapt the batch size per device to a changed number of devices, so that each step keeps the same examples.

    Args:
        experiment: the components of the run, built from its config.
        recorded: the number of devices with which the run started; `None`: the run starts now.
        now: the number of devices from now on.

    Raises:
        InstructLabError: the examples cannot be divided evenly over the devices, or the loss of an example depends on
            the other examples on its device.
    """
    size = experiment.batching.batch_size
    if recorded in (None, now):
        return experiment
    assert recorded is not None
    if not experiment.objective.has_independent_examples:
        raise InstructLabError(
            f"{type(experiment.objective).__name__} compares the examples of a device's batch with each other, so its "
            f"steps would change on {now} instead of {recorded} devices",
            where="trainer.devices",
            do=f"continue on {recorded} devices, or start a new run",
        )
    together = size * recorded
    if together % now:
        raise InstructLabError(
            f"A step of the run takes {together} examples at a time, which cannot be divided evenly over {now} devices",
            where="trainer.devices",
            do=f"choose a number of devices that divides {together}",
        )
    return dataclasses.replace(
        experiment, batching=dataclasses.replace(experiment.batching, batch_size=together // now)
    )
