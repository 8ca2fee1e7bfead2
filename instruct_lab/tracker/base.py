"""Trackers receive the values of a run beside its record; whatever they do, they never end the run."""

from __future__ import annotations

import logging
import os
import queue
import shlex
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instruct_lab.config import Component
from instruct_lab.errors import one_line

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord

CONNECT_SECONDS = 240.0
"""How long a tracker may take to begin a run before the run continues without it."""
CALL_SECONDS = 120.0
"""The same to receive values or a table."""
WEIGHTS_SECONDS = 3600.0
"""The same to receive weights, which may be many gigabytes."""
FINISH_SECONDS = 330.0
"""The same to close a run; wandb waits 300 s for its last upload."""
BROKEN_FINISH_SECONDS = 10.0
"""The same to close a run after an earlier failure."""
logger = logging.getLogger(__name__)


class TrackerSession(ABC):
    """A tracker that is receiving one run."""

    @abstractmethod
    def log(self, values: dict[str, float], step: int) -> None:
        """Receive values by `split/metric` at an optimizer step."""

    @abstractmethod
    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Receive a table."""

    @abstractmethod
    def summarize(self, values: dict[str, Any]) -> None:
        """Receive the run's final values."""

    def log_weights(self, path: Path) -> None:  # noqa: B027  # not every tracker stores weights
        """Receive the folder of the evaluated weights."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """Close the run: 0 done, 1 failed, 130 and 143 interrupted."""

    @abstractmethod
    def where(self) -> str | None:
        """One line on how to see the run."""


class Tracker(Component, ABC):
    """Receives what a run logs."""

    @abstractmethod
    def connect(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Begin to receive a run; may raise whatever the tracker's library raises."""

    def start(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Begin to receive a run; whatever the tracker does, now or later, the run continues.

        Args:
            record: the run's own record.
            config: the whole config, resolved.
            tags: of the run, such as `tuning=lora`.
            group: the study or sweep that it belongs to.
        """
        return GuardedSession(type(self).__name__, lambda: self.connect(record, config, tags, group), record.log)


class GuardedSession(TrackerSession):
    """A session whose first failure is logged once, after which the run continues without it.

    Its tracker works in a thread of its own, one call after the other. The run waits for each call, so that nothing
    happens concurrently, and continues without a tracker that takes too long.

    Args:
        name: of the tracker.
        connect: begins the session that is guarded.
        log_failure: receives the failure's message, besides the program's log.
    """

    def __init__(self, name: str, connect: Callable[[], TrackerSession], log_failure: Callable[[str], None]) -> None:
        self.name, self.log_failure = name, log_failure
        self.is_broken = self._hangs = self._is_closed = False
        self._session: TrackerSession | None = None  # used only by the thread
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"tracker {name}", daemon=True).start()

        def begin() -> None:
            self._session = connect()

        self._call(begin, CONNECT_SECONDS, "connect")

    def log(self, values: dict[str, float], step: int) -> None:
        """Log values."""
        self._forward(lambda session: session.log(values, step), CALL_SECONDS)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table."""
        self._forward(lambda session: session.log_table(name, columns, rows), CALL_SECONDS)

    def summarize(self, values: dict[str, Any]) -> None:
        """Set final values."""
        self._forward(lambda session: session.summarize(values), CALL_SECONDS)

    def log_weights(self, path: Path) -> None:
        """Log the folder of the weights."""
        self._forward(lambda session: session.log_weights(path), WEIGHTS_SECONDS)

    def finish(self, exit_code: int) -> None:
        """Close the run, also after a failure; a tracker that hangs closes it when it continues."""
        if self._is_closed:
            return
        self._is_closed = True
        seconds = 0.0 if self._hangs else BROKEN_FINISH_SECONDS if self.is_broken else FINISH_SECONDS
        self._call(lambda: self._session and self._session.finish(exit_code), seconds, "close the run")
        self._calls.put(None)

    def where(self) -> str | None:
        """One line on how to see the run; none if there is nothing to see."""
        line: str | None = self._forward(lambda session: session.where(), CALL_SECONDS)
        return line

    def _forward(self, call: Callable[[TrackerSession], Any], seconds: float) -> Any:
        if self.is_broken or self._is_closed:
            return None
        return self._call(lambda: self._session and call(self._session), seconds, "answer")

    def _call(self, call: Callable[[], Any], seconds: float, what: str) -> Any:
        """Run `call` in the tracker's thread; return its result, or none after a failure or a timeout."""
        future: Future[Any] = Future()
        self._calls.put((future, call))
        if future not in wait([future], seconds).done:
            self._hangs = True
            self._record_failure(f"it did not {what} within {seconds:g} s")
            return None
        try:
            return future.result()
        except (Exception, SystemExit) as error:  # whatever a tracker raises, the run continues
            self._record_failure(f"{type(error).__name__}: {one_line(error)}")
            return None

    def _work(self) -> None:
        """Run queued calls, in the thread, until `None` comes."""
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

    def _record_failure(self, reason: str) -> None:
        """Log the first failure."""
        if self.is_broken:
            return
        self.is_broken = True
        message = f"The tracker {self.name} failed, and the run continues without it: {reason}"
        logger.warning(message)
        try:
            self.log_failure(message)
        except Exception as error:  # a full disk, which the run's own record reports
            logger.debug("The log could not be written: %s", error)


def short_path(path: Path) -> str:
    """A path to paste into a shell: relative if that is shorter."""
    relative = os.path.relpath(path)
    return shlex.quote(min(relative, str(path.absolute()), key=len))
