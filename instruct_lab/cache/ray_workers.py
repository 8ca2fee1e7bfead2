"""Workers on a Ray cluster: each part of the work is a Ray task, which runs on any free machine.

A task reads its rows from files of the cache, so every machine needs the folder of the cache under the same path. If a
task fails, the main process processes the part again, as with worker processes on this machine.
"""

from __future__ import annotations

import functools
import logging
import os
import pickle
import queue
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from instruct_lab.cache.parallel import PARTS_EACH, Part, Workers
from instruct_lab.config import permissions
from instruct_lab.errors import one_line, wrap_errors

logger = logging.getLogger(__name__)


def connect(address: str | None, where: str, do: str) -> None:
    """Connect this process to a Ray cluster.

    Args:
        address: address of the cluster; `None`: the cluster that `RAY_ADDRESS` names, or else one that runs on this
            machine, or else a new one.
        where: the setting that asks for the cluster, for the error message.
        do: the advice to the user in the error message if the cluster cannot be reached.
    """
    import ray

    search_path = os.pathsep.join(path for path in sys.path if path)
    with wrap_errors(what="Ray cannot be reached", where=where, do=do):
        ray.init(
            address=address,
            include_dashboard=False if address is None and "RAY_ADDRESS" not in os.environ else None,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": search_path, **permissions.inherited()}},
        )


def is_inside_task() -> bool:
    """Whether this process runs a Ray task.

    If it does, it should start no tasks itself: they could wait forever for the CPUs that running tasks hold.
    """
    if "ray" not in sys.modules:
        return False
    import ray

    return bool(ray.is_initialized() and ray.get_runtime_context().get_task_id() is not None)


class RayWorkers(Workers):
    """The CPUs of a Ray cluster as workers.

    The main process begins without the cluster, and connects to it only if the work takes longer than 0.4 seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._owns_connection = self._has_warned = False

    def start(self, pickled: bytes) -> list[Any]:
        """Connect to the cluster, send it the pickled function, and return a worker for each CPU, at least one."""
        import ray

        if not ray.is_initialized():
            do = "check the variable RAY_ADDRESS, or type preprocessing.workers=local"
            connect(None, "preprocessing.workers=ray", do)
            self._owns_connection = True
        remote: Any = ray.remote
        run = remote(num_cpus=1, max_retries=0)(run_part)
        send = functools.lru_cache(maxsize=1)(ray.put)
        num_cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        workers = [_RayWorker(self.answers, run, send) for _ in range(num_cpus)]
        for worker in workers:
            worker.prepare(pickled)
        return workers

    def repeat(self, function: Callable[[Any], Any], part: Part) -> Any:
        """Process a part again, in the main process, after it failed on the cluster; log a warning the first time."""
        result = function(part.value)
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The Ray cluster cannot process a part of the data, so this process does it (%s). Every machine needs "
                "the package and the folder of the cache under the same paths.",
                part.result,
            )
        return result

    def stop(self) -> None:
        """Cancel the unfinished tasks, and end the connection to the cluster if this object made it."""
        super().stop()
        if self._owns_connection:
            import ray

            ray.shutdown()


class _RayWorker:
    """One CPU of the cluster as a worker.

    Args:
        answers: queue that receives the results.
        run: the remote function that processes a part.
        send: function that stores a pickled function in the cluster, unless it is already stored there.
    """

    def __init__(self, answers: queue.SimpleQueue[Any], run: Any, send: Callable[[bytes], Any]) -> None:
        self._answers, self._run, self._send = answers, run, send
        self._sent: dict[int, tuple[Part, Any]] = {}
        self._function: Any = None

    @property
    def has_capacity(self) -> bool:
        """Whether another task can be submitted."""
        return len(self._sent) < PARTS_EACH

    def prepare(self, pickled: bytes) -> None:
        """Store the function in the cluster, so that every task can load it from there."""
        self._function = self._send(pickled)

    def send_part(self, number: int, part: Part) -> bool:
        """Submit a task that processes a part, and return whether it could be submitted.

        It cannot be submitted if the part cannot be pickled or the connection to the cluster is lost. `number`
        identifies the part in the task's answer.
        """
        try:
            task = self._run.remote(self._function, part.value)
        except Exception:  # the part cannot be pickled, or the connection is lost
            return False
        self._sent[number] = part, task
        task.future().add_done_callback(functools.partial(self._answer, number))
        return True

    def _answer(self, number: int, future: Future[tuple[bool, Any]]) -> None:
        try:
            has_failed, result = future.result()
        except BaseException as error:  # the task was cancelled, or its machine was lost
            has_failed, result = True, one_line(error)
        self._answers.put((self, number, has_failed, result))

    def handle(self, number: int, has_failed: bool, result: Any) -> None:
        """Mark the part with this number as done, with its result or, if it has failed, the reason."""
        part, _ = self._sent.pop(number)
        part.complete(has_failed, result)

    def stop(self) -> None:
        """Cancel the unfinished tasks."""
        import ray

        for _, task in self._sent.values():
            ray.cancel(task)


def run_part(pickled: bytes, value: Any) -> tuple[bool, Any]:
    """Apply a pickled function to a part, inside a Ray task.

    Returns:
        Whether the function raised an error; then its result or, if it raised an error, the error as text.
    """
    try:
        return False, _load(pickled)(value)
    except Exception as error:  # the main process repeats the part and raises the error
        return True, f"{type(error).__name__}: {one_line(error)}"


_load: Callable[[bytes], Callable[[Any], Any]] = functools.lru_cache(maxsize=2)(pickle.loads)
