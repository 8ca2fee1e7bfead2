"""The base class of trackers, and a wrapper that lets a run continue if its tracker fails."""

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
from typing import TYPE_CHECKING, Any, ClassVar

from instruct_lab.config import Component
from instruct_lab.errors import one_line

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord

CALL_SECONDS = 10.0
"""Maximum time that the run waits for a tracker to connect, or to receive values or a table."""
WEIGHTS_SECONDS = 3600.0
"""Maximum time in which a tracker must receive weights, which may be many gigabytes."""
logger = logging.getLogger(__name__)


class TrackerSession(ABC):
    """The connection of one run to a tracker."""

    finish_seconds: ClassVar[float] = CALL_SECONDS
    """Maximum time that the tracker may take to close the run."""

    @abstractmethod
    def log(self, values: dict[str, float], step: int) -> None:
        """Send values measured at an optimizer step to the tracker; the keys are `split/metric`, such as `val/loss`."""

    @abstractmethod
    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Send a table with the given column names to the tracker; each row has one cell for each column."""

    @abstractmethod
    def summarize(self, values: dict[str, Any]) -> None:
        """Send the values measured at the end of the run, such as `test/chrf/after`, to the tracker."""

    def log_weights(self, path: Path) -> None:  # noqa: B027  # not every tracker stores weights
        """Upload the folder with the evaluated weights; by default, do nothing, as most trackers store no weights."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """Close the run in the tracker.

        Args:
            exit_code: 0 if the run finished or was pruned, 1 if it failed, above 128 if a signal stopped it.
        """

    @abstractmethod
    def where(self) -> str | None:
        """Return one line that says how to view the run; `None` if the tracker cannot show it."""


class Tracker(Component, ABC):
    """The base class of trackers, which receive the values that a run measures."""

    @abstractmethod
    def connect(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Open a session for a run; the caller, `start`, handles exceptions of the tracker's library."""

    def start(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Open a session for a run; if the tracker fails now or later, the run continues without it.

        Args:
            record: the run's record.
            config: the whole config, resolved.
            tags: tags of the run, such as `tuning=lora`.
            group: the study or sweep that the run belongs to.
        """
        return GuardedSession(type(self).__name__, lambda: self.connect(record, config, tags, group), record.log)


class GuardedSession(TrackerSession):
    """A session that passes its calls to a tracker until the tracker fails; the failure is written to the log.

    A separate thread makes the calls, one after another. The run waits for each call, so that nothing happens
    concurrently. Once a call exceeds its timeout, the run stops waiting: later calls are queued, and the thread makes
    them when the tracker answers again. A server that cannot be reached therefore delays the run by only one timeout.

    Args:
        name: name of the tracker, for messages.
        connect: function that opens the tracker's own session.
        log_failure: function that writes the message about a failure to the run's record. The message also goes to
            Python's `logging`.
    """

    def __init__(self, name: str, connect: Callable[[], TrackerSession], log_failure: Callable[[str], None]) -> None:
        self.name, self.log_failure = name, log_failure
        self.is_broken = self._is_late = self._is_closed = False
        self._session: TrackerSession | None = None  # called only by the thread
        self._last_call: Future[Any] | None = None
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"tracker {name}", daemon=True).start()

        def begin() -> None:
            self._session = connect()

        self._call(begin, CALL_SECONDS, "connect")

    def log(self, values: dict[str, float], step: int) -> None:
        """Pass values measured at an optimizer step to the tracker, unless it has failed."""
        self._forward(lambda session: session.log(values, step), CALL_SECONDS)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Pass a table to the tracker, unless it has failed."""
        self._forward(lambda session: session.log_table(name, columns, rows), CALL_SECONDS)

    def summarize(self, values: dict[str, Any]) -> None:
        """Pass the run's final values to the tracker, unless it has failed."""
        self._forward(lambda session: session.summarize(values), CALL_SECONDS)

    def log_weights(self, path: Path) -> None:
        """Pass the folder with the evaluated weights to the tracker, unless it has failed."""
        self._forward(lambda session: session.log_weights(path), WEIGHTS_SECONDS)

    def finish(self, exit_code: int) -> None:
        """Close the tracker's run, even after a failure; after a timeout, this happens once the tracker answers."""
        if self._is_closed:
            return
        self._is_closed = True
        self._is_late = self._is_late and self._last_call is not None and not self._last_call.done()
        seconds = CALL_SECONDS if self.is_broken or self._session is None else self._session.finish_seconds
        self._call(lambda: self._session and self._session.finish(exit_code), seconds, "close the run")
        self._calls.put(None)

    def where(self) -> str | None:
        """Return one line that says how to view the run; `None` if the tracker cannot show it or has failed."""
        line: str | None = self._forward(lambda session: session.where(), CALL_SECONDS)
        return line

    def _forward(self, call: Callable[[TrackerSession], Any], seconds: float) -> Any:
        if self.is_broken or self._is_closed:
            return None
        return self._call(lambda: not self.is_broken and self._session and call(self._session), seconds, "answer")

    def _call(self, call: Callable[[], Any], seconds: float, what: str) -> Any:
        """Run `call` in the tracker's thread; return its result, or `None` after a failure or a timeout.

        Args:
            call: the function to run.
            seconds: maximum time to wait for it.
            what: the expected action, such as `connect`, for the message after a timeout.
        """
        future: Future[Any] = Future()
        self._last_call = future
        self._calls.put((future, call))
        if self._is_late:
            return None
        if future not in wait([future], min(seconds, CALL_SECONDS)).done and seconds > CALL_SECONDS:
            logger.warning("Waiting up to %g s for the tracker %s; Ctrl-C ends the waiting", seconds, self.name)
        if future not in wait([future], max(0.0, seconds - CALL_SECONDS)).done:
            self._is_late = True
            reason = f"it did not {what} within {seconds:g} s"
            self._record(f"The tracker {self.name} is late, and the run goes on: {reason}")
            return None
        return None if future.exception() is not None else future.result()

    def _work(self) -> None:
        """Make the queued calls, in the tracker's thread, until `None` is queued."""
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                result = call()
            except BaseException as error:  # the run continues, whatever a tracker raises
                self._record_failure(f"{type(error).__name__}: {one_line(error)}")
                future.set_exception(error)
            else:
                future.set_result(result)

    def _record_failure(self, reason: str) -> None:
        """Mark the tracker as broken; only its first failure is written to the log."""
        if self.is_broken:
            return
        self.is_broken = True
        self._record(f"The tracker {self.name} failed, and the run continues without it: {reason}")

    def _record(self, message: str) -> None:
        logger.warning(message)
        try:
            self.log_failure(message)
        except Exception as error:  # a full disk, which the run's own record reports
            logger.debug("The log could not be written: %s", error)


def short_path(path: Path) -> str:
    """Return a path quoted for a shell: relative to the working directory or absolute, whichever is shorter."""
    relative = os.path.relpath(path)
    return shlex.quote(min(relative, str(path.absolute()), key=len))
