"""Find out, from environment variables, which program started this process, and the rank of this process in its run.

The processes of a run are started by torchrun, by Slurm's `srun`, or by the run's first process itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re


@dataclasses.dataclass(frozen=True)
class Launch:
    """The way in which another program has started the processes of a run.

    Args:
        program: the program, `torchrun` or `srun`.
        rank: index of this process among all processes.
        num_processes: number of processes on all nodes.
        num_nodes: number of nodes.
    """

    program: str
    rank: int
    num_processes: int
    num_nodes: int

    @property
    def num_per_node(self) -> int:
        """Number of processes on each node."""
        return self.num_processes // self.num_nodes


def external_launch() -> Launch | None:
    """Describe how torchrun or srun has started the processes of this run.

    The result is `None` if neither has. It is also `None` for a Slurm job with a single task, and if the environment
    variables of torchrun or srun are missing or invalid.
    """
    with contextlib.suppress(ValueError):
        return _read_launch()
    return None


def launch_fault() -> str | None:
    """Return what is wrong with the environment variables of torchrun or srun, or `None` if nothing is wrong."""
    try:
        _read_launch()
    except ValueError as error:
        return str(error)
    return None


def _read_launch() -> Launch | None:
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        count = _number("WORLD_SIZE", least=1)
        nodes = count // _number("LOCAL_WORLD_SIZE", least=1, default=count)
        return Launch("torchrun", _number("RANK"), count, nodes)
    is_interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    count = _number("SLURM_NTASKS", least=1, default=1)
    if count > 1 and "SLURM_PROCID" in environment and not is_interactive:
        return Launch("srun", _number("SLURM_PROCID"), count, _number("SLURM_NNODES", least=1, default=1))
    return None


def _number(name: str, least: int = 0, default: int | None = None) -> int:
    found = os.environ.get(name, None if default is None else str(default))
    if found is not None and re.fullmatch("[0-9]{1,9}", found) and int(found) >= least:
        return int(found)
    state = "is not set" if found is None else f"is {found!r}"
    raise ValueError(f"the environment variable {name} {state}, and a whole number from {least} is expected")


def is_first_process() -> bool:
    """Whether this process is the first of a run's processes, which is the one that writes the run's record."""
    launch = external_launch()
    return os.environ.get("LOCAL_RANK", "0") == "0" if launch is None else launch.rank == 0
