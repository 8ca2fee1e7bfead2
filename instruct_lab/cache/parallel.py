"""Process many rows with several worker processes: each processes parts of the rows, and the results stay in order.

Each worker is a plain Python process that receives its function and parts through a pipe. It needs no importable main
program, can be started by a worker of a sweep, and, unlike a forked process, shares no threads or locks with the main
process. If a part fails in a worker (the worker was killed, or the function raises an error), the main process
processes the part again, so errors are the same as without workers.

joblib's loky was measured as an alternative. If only loky's workers process parts, it is 7 to 33% slower than this
module. If the main process also processes parts, the code that uses loky is as long as this module.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe
from typing import Any, TypeVar

from instruct_lab.collector import collect_rarely
from instruct_lab.cores import usable_cores

P = TypeVar("P")
R = TypeVar("R")

PATIENCE_SECONDS = 0.4
"""Number of seconds that the main process works by itself before it starts workers; shorter work needs no workers."""
MAX_PROCESSES = 4
PARTS_EACH = 2
"""Number of parts that a worker holds at the same time: the current part and the next part."""
READY = -1
GONE = -2
CODE = "import sys; sys.path[:] = {path!r}; from instruct_lab.cache.parallel import serve; serve({descriptor})"


def map_in_order(function: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
    """Apply a function to every part, like `map`, and yield the results in order.

    Inside `with worker_processes():`, worker processes start and share the work once the main process has worked on
    parts for 0.4 seconds.

    Args:
        function: a function whose result depends only on the part. It is sent to workers only if it can be pickled,
            as an instance of a frozen dataclass with `__call__` can.
        parts: the arguments of the calls; only a bounded number of them is read in advance.

    Raises:
        Exception: the function's exception for the first part that fails.
    """
    workers = current_workers.get()
    pickled = _pickle(function) if workers is not None else None
    if workers is None or pickled is None:
        yield from map(function, parts)
    else:
        yield from workers.map_in_order(function, pickled, parts)


def local_workers() -> Workers | None:
    """Return worker processes on this machine, which start when needed; `None` if only one process can be used."""
    return Workers() if num_processes() > 1 else None


def num_processes() -> int:
    """Return the maximum number of processes that share the work: one for each usable CPU core, but at most 4."""
    if os.name != "posix" or not sys.executable:
        return 1
    return min(len(usable_cores()), MAX_PROCESSES)


def _pickle(function: object) -> bytes | None:
    try:
        return pickle.dumps(function, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):  # such as a function defined inside another function
        return None


class Part:
    """A part of the input that is being processed, and its result once the part is done."""

    __slots__ = ("has_failed", "is_done", "result", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.result = value, None
        self.is_done = self.has_failed = False

    def complete(self, has_failed: bool, result: Any = None) -> None:
        """Mark the part as done; if it has failed, `result` is the reason for the failure (`None` if unknown)."""
        self.is_done, self.has_failed, self.result = True, has_failed, result


class Workers:
    """The worker processes that share the work inside a `with worker_processes()` block.

    They start once the main process has worked on parts of the input for 0.4 seconds (`PATIENCE_SECONDS`).
    """

    def __init__(self) -> None:
        self.answers: queue.SimpleQueue[tuple[Any, int, bool, Any]] = queue.SimpleQueue()
        self._workers: list[Any] = []
        self._seconds, self._num_parts = 0.0, 0

    def map_in_order(self, function: Callable[[Any], Any], pickled: bytes, parts: Iterable[Any]) -> Iterator[Any]:
        """Yield the function's result for each part, in the order of the parts.

        Args:
            function: the function, which the main process calls.
            pickled: the same function, pickled for the workers.
            parts: the arguments of the calls; only a bounded number of them is read in advance.
        """
        waiting: deque[Part] = deque()
        for worker in self._workers:
            worker.prepare(pickled)
        remaining, failure = iter(parts), None
        has_more = True
        while has_more or waiting:
            self._receive(wait=False)
            if waiting and waiting[0].is_done:
                part = waiting.popleft()
                yield self.repeat(function, part) if part.has_failed else part.result
            elif has_more and len(waiting) <= 2 * PARTS_EACH * len(self._workers):
                try:
                    waiting.append(Part(next(remaining)))
                except StopIteration:
                    has_more = False
                except Exception as error:  # raised below, after the results of all earlier parts
                    has_more, failure = False, error
                else:
                    self._begin(waiting[-1], function, pickled)
            else:
                self._receive(wait=True)
        if failure is not None:
            raise failure

    def _begin(self, part: Part, function: Callable[[Any], Any], pickled: bytes) -> None:
        """Send a part to a worker or, if no worker has capacity, process it in the main process."""
        for worker in self._workers:
            self._num_parts += 1
            if worker.has_capacity and worker.send_part(self._num_parts, part):
                return
        started = time.perf_counter()
        try:
            part.complete(False, function(part.value))
        except Exception:
            part.complete(True)
        self._seconds += time.perf_counter() - started
        if self._seconds >= PATIENCE_SECONDS and not self._workers:
            self._workers = self.start(pickled)

    def start(self, pickled: bytes) -> list[Any]:
        """Start the workers, send them the pickled function, and return the workers."""
        return [_Worker(self.answers, pickled) for _ in range(num_processes() - 1)]

    def repeat(self, function: Callable[[Any], Any], part: Part) -> Any:
        """Process a part again, in the main process, after it failed in a worker, and return its result."""
        return function(part.value)

    def _receive(self, wait: bool) -> None:
        """Handle all messages from workers that have arrived; with `wait`, first wait for a message."""
        with contextlib.suppress(queue.Empty):
            while True:
                worker, number, has_failed, result = self.answers.get(block=wait)
                worker.handle(number, has_failed, result)
                wait = False

    def stop(self) -> None:
        """End all workers at once; unfinished parts are lost."""
        for worker in self._workers:
            worker.stop()


current_workers: contextvars.ContextVar[Workers | None] = contextvars.ContextVar("workers", default=None)


class _Worker:
    """A worker process, with the parts sent to it.

    Args:
        answers: queue that receives the worker's messages.
        pickled: the pickled function that the worker loads first.
    """

    def __init__(self, answers: queue.SimpleQueue[tuple[_Worker, int, bool, Any]], pickled: bytes) -> None:
        self._sent: dict[int, Part] = {}
        self._is_ready = False
        self._connection, its = Pipe()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CODE.format(path=sys.path, descriptor=its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C reaches only this process, which ends the worker
            )
        self._pickled = b""
        self.prepare(pickled)
        self._listener = threading.Thread(target=self._listen, args=[answers], name="parts", daemon=True)
        self._listener.start()

    @property
    def has_capacity(self) -> bool:
        """Whether the worker is ready and can receive another part."""
        return self._is_ready and len(self._sent) < PARTS_EACH

    def prepare(self, pickled: bytes) -> None:
        """Send a pickled function to the worker, if it differs from the one that the worker already has.

        The worker counts as ready again once it has loaded the new function.
        """
        if pickled != self._pickled:
            self._is_ready, self._pickled = False, pickled
            self._send((READY, pickled))

    def send_part(self, number: int, part: Part) -> bool:
        """Send a part under a number that identifies it in the worker's answer; return whether it could be sent.

        It cannot be sent if the worker has ended or the part cannot be pickled.
        """
        self._sent[number] = part
        if self._send((number, part.value)):
            return True
        del self._sent[number]
        return False

    def handle(self, number: int, has_failed: bool, result: Any) -> None:
        """Handle a message from the worker.

        Args:
            number: the number of a part that is done, `READY` if the worker has tried to load its function, or `GONE`
                if the connection to the worker has ended.
            has_failed: whether the part, or the loading of the function, has failed.
            result: the result of the part; `None` if it has failed.
        """
        if number == READY:
            self._is_ready = not has_failed
        elif number == GONE:
            self._is_ready = False
            for part in self._sent.values():
                part.complete(True)
            self._sent.clear()
        else:
            self._sent.pop(number).complete(has_failed, result)

    def _send(self, message: Any) -> bool:
        try:
            self._connection.send(message)
        except Exception:  # the worker is gone, or the message cannot be pickled
            return False
        return True

    def _listen(self, answers: queue.SimpleQueue[tuple[_Worker, int, bool, Any]]) -> None:
        with contextlib.suppress(Exception):  # the worker ended, or its answer cannot be unpickled
            while True:
                answers.put((self, *self._connection.recv()))
        answers.put((self, GONE, True, None))

    def stop(self) -> None:
        """Kill the worker process; it holds no data that must be saved."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._connection.close()


def serve(descriptor: int) -> None:
    """Run a worker: process each part that it receives and send back the result, until the connection closes.

    Args:
        descriptor: file descriptor of the worker's end of the connection.
    """
    collect_rarely()
    connection = Connection(descriptor)
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_messages, args=[connection, messages], daemon=True).start()
    function: Callable[[Any], Any] = pickle.loads
    while True:
        number, value = pickle.loads(messages.get())
        try:
            if number == READY:
                function, answer = pickle.loads(value), (READY, False, None)
            else:
                answer = (number, False, function(value))
        except Exception:  # the main process repeats the part and raises the error
            answer = (number, True, None)
        connection.send(answer)


def _read_messages(connection: Connection, messages: queue.SimpleQueue[bytes]) -> None:
    """Read messages into a queue as soon as they arrive, so that the main process never waits to send one.

    When the connection closes, end this worker process.
    """
    try:
        while True:
            messages.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)
