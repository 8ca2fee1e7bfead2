"""Find out, from environment variables, which program started this process, and its rank among a run's processes.

The processes of a run are started by torchrun, by Slurm's `srun`, or by the run's first process itself.
"""

from __future__ import annotations

import dataclasses
import os


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
    """Describe how another program has started several processes; `None`: it has not done so.

    A Slurm job with a single task is an ordinary process.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        count = int(environment["WORLD_SIZE"])
        nodes = count // int(environment.get("LOCAL_WORLD_SIZE", count))
        return Launch("torchrun", int(environment["RANK"]), count, nodes)
    is_interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    count = int(environment.get("SLURM_NTASKS", "1"))
    if count > 1 and "SLURM_PROCID" in environment and not is_interactive:
        return Launch("srun", int(environment["SLURM_PROCID"]), count, int(environment.get("SLURM_NNODES", "1")))
    return None


def is_first_process() -> bool:
    """Whether this is the first of the processes of a run, which writes its record."""
    launch = external_launch()
    return os.environ.get("LOCAL_RANK", "0") == "0" if launch is None else launch.rank == 0
