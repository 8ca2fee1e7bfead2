"""Choose the workers that share the work of a `with` block: processes on this machine, or tasks on a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

from instruct_lab.cache.parallel import Workers, current_workers, local_workers

WorkerKind = Literal["local", "ray"]


@contextlib.contextmanager
def worker_processes(kind: WorkerKind = "local") -> Iterator[None]:
    """Let worker processes share the work inside a `with` block.

    Nested blocks use the same processes, which are stopped at the end of the outermost block.

    Args:
        kind: where the processes are: on this machine, or on a Ray cluster.
    """
    workers = None if current_workers.get() is not None else _create_workers(kind)
    if workers is None:
        yield
        return
    token = current_workers.set(workers)
    try:
        yield
    finally:
        current_workers.reset(token)
        workers.stop()


def _create_workers(kind: WorkerKind) -> Workers | None:
    if kind == "ray":
        from instruct_lab.cache.ray_workers import RayWorkers, is_inside_task

        if not is_inside_task():
            return RayWorkers()
    return local_workers()
