"""Work on parts of many rows, in this process and in others beside it; results in the order of the parts.

Python works on one core, and rows are many. The others are plain Python processes that know nothing but what they are
sent: they need no main program that can be imported, may be started by a worker of a sweep, and share neither threads
nor locks with this process, as a fork would. A part that another process cannot do (it was killed, or the work raises
an error) is done again here, so an error is told as if it had always been here.
"""

from __future__ import annotations

import contextlib
import contextvars
import gc
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

P = TypeVar("P")
R = TypeVar("R")

PATIENCE_SECONDS = 0.4
"""Work that takes less, all parts together, starts no process."""
MOST_PROCESSES = 4
PARTS_EACH = 2
"""Parts that another process has at a time: one in work, and the next."""
GC_THRESHOLDS = (200_000, 20, 100)
"""Python's search for garbage in cycles, seldom: rows are many objects without cycles, and it looks at them all."""
READY = -1
GONE = -2
CODE = "import sys; sys.path[:] = {path!r}; from instruct_lab.cache.parallel import serve; serve({descriptor})"


def map_in_order(work: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
    """`map`, with other processes where there are any (see `worker_processes`) and the work is long enough for them.

    Args:
        work: a function of a part alone; what can be pickled (a frozen dataclass that is called, say) is shared.
        parts: read one after the other in this process, a bounded number ahead.

    Raises:
        Exception: what the work raises, for the first part that it does so for.
    """
    known = _others.get()
    packed = _packed(work) if known is not None else None
    if known is None or packed is None:
        yield from map(work, parts)
    else:
        yield from known.map_in_order(work, packed, parts)


@contextlib.contextmanager
def worker_processes() -> Iterator[None]:
    """For the time of a block, other processes may take part; within another such block, they are its own."""
    if _others.get() is not None or num_processes() < 2:
        yield
        return
    known = _Others()
    token = _others.set(known)
    try:
        yield
    finally:
        _others.reset(token)
        known.end()


def num_processes() -> int:
    """How many processes work at most: one for each core that this one may use."""
    if os.name != "posix" or not sys.executable:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_PROCESSES)


def _packed(value: object) -> bytes | None:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):  # a class or a function within another
        return None


class _Part:
    """A part that was begun, and what became of it."""

    __slots__ = ("is_done", "is_failed", "result", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.result = value, None
        self.is_done = self.is_failed = False

    def end(self, is_failed: bool, result: Any = None) -> None:
        self.is_done, self.is_failed, self.result = True, is_failed, result


class _Others:
    """The other processes, started when this one has worked for long enough."""

    def __init__(self) -> None:
        self._heard: queue.SimpleQueue[tuple[_Process, int, bool, Any]] = queue.SimpleQueue()
        self._processes: list[_Process] = []
        self._seconds, self._numbers = 0.0, 0

    def map_in_order(self, work: Callable[[Any], Any], packed: bytes, parts: Iterable[Any]) -> Iterator[Any]:
        """See `map_in_order`."""
        waiting: deque[_Part] = deque()
        for process in self._processes:
            process.prepare(packed)
        coming, failure = iter(parts), None
        there_are_more = True
        while there_are_more or waiting:
            self._hear(wait=False)
            if waiting and waiting[0].is_done:
                part = waiting.popleft()
                yield work(part.value) if part.is_failed else part.result
            elif there_are_more and len(waiting) <= 2 * PARTS_EACH * len(self._processes):
                try:
                    waiting.append(_Part(next(coming)))
                except StopIteration:
                    there_are_more = False
                except Exception as error:  # told after what is wrong with the parts before
                    there_are_more, failure = False, error
                else:
                    self._begin(waiting[-1], work, packed)
            else:
                self._hear(wait=True)
        if failure is not None:
            raise failure

    def _begin(self, part: _Part, work: Callable[[Any], Any], packed: bytes) -> None:
        """Give a part to another process, or do it here."""
        for process in self._processes:
            self._numbers += 1
            if process.has_room and process.give(self._numbers, part):
                return
        started = time.perf_counter()
        try:
            part.end(False, work(part.value))
        except Exception:
            part.end(True)
        self._seconds += time.perf_counter() - started
        if self._seconds >= PATIENCE_SECONDS and not self._processes:
            self._processes = [_Process(self._heard, packed) for _ in range(num_processes() - 1)]

    def _hear(self, wait: bool) -> None:
        """Take in what the others have done."""
        with contextlib.suppress(queue.Empty):
            while True:
                process, number, is_failed, result = self._heard.get(block=wait)
                process.take(number, is_failed, result)
                wait = False

    def end(self) -> None:
        """End the processes: none outlives the block."""
        for process in self._processes:
            process.end()


_others: contextvars.ContextVar[_Others | None] = contextvars.ContextVar("others", default=None)


class _Process:
    """Another Python, with the parts that it was given.

    Args:
        heard: where its answers go.
        packed: work that it makes itself ready for.
    """

    def __init__(self, heard: queue.SimpleQueue[tuple[_Process, int, bool, Any]], packed: bytes) -> None:
        self._given: dict[int, _Part] = {}
        self._is_ready = False
        self._connection, its = Pipe()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CODE.format(path=sys.path, descriptor=its.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends the other
            )
        self._packed = b""
        self.prepare(packed)
        self._listener = threading.Thread(target=self._listen, args=[heard], name="parts", daemon=True)
        self._listener.start()

    @property
    def has_room(self) -> bool:
        """Whether it is there, and waits for parts."""
        return self._is_ready and len(self._given) < PARTS_EACH

    def prepare(self, packed: bytes) -> None:
        """Send work; it is ready for parts when it has read that."""
        if packed != self._packed:
            self._is_ready, self._packed = False, packed
            self._send((READY, packed))

    def give(self, number: int, part: _Part) -> bool:
        """Send a part; whether it arrived."""
        self._given[number] = part
        if self._send((number, part.value)):
            return True
        del self._given[number]
        return False

    def take(self, number: int, is_failed: bool, result: Any) -> None:
        """An answer to a part; or that it is ready, or gone."""
        if number == READY:
            self._is_ready = not is_failed
        elif number == GONE:
            self._is_ready = False
            for part in self._given.values():
                part.end(True)
            self._given.clear()
        else:
            self._given.pop(number).end(is_failed, result)

    def _send(self, message: Any) -> bool:
        try:
            self._connection.send(message)
        except Exception:  # it is gone, or the message cannot be written down
            return False
        return True

    def _listen(self, heard: queue.SimpleQueue[tuple[_Process, int, bool, Any]]) -> None:
        with contextlib.suppress(Exception):  # its end, or an answer that cannot be read
            while True:
                heard.put((self, *self._connection.recv()))
        heard.put((self, GONE, True, None))

    def end(self) -> None:
        """End it, whatever it is doing: it holds nothing."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self._connection.close()


def serve(descriptor: int) -> None:
    """What another process does: answer every part that it is sent, until the connection ends.

    Args:
        descriptor: its end of the connection.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    connection = Connection(descriptor)
    given: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=[connection, given], daemon=True).start()
    work: Callable[[Any], Any] = pickle.loads
    while True:
        number, value = pickle.loads(given.get())
        try:
            if number == READY:
                work, answer = pickle.loads(value), (READY, False, None)
            else:
                answer = (number, False, work(value))
        except Exception:  # the one that asked does the part again, and tells what is wrong
            answer = (number, True, None)
        connection.send(answer)


def _receive(connection: Connection, given: queue.SimpleQueue[bytes]) -> None:
    """Read what is sent at once, so that the sender never waits; end the process when nobody sends any more."""
    try:
        while True:
            given.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)
