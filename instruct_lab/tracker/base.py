"""What a tracker is: something beside the run record that receives the same values, and never ends a run."""

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

if TYPE_CHECKING:
    from instruct_lab.records.record import RunRecord

CONNECT_SECONDS = 240.0
"""A tracker that has not begun a run by then is left behind."""
CALL_SECONDS = 120.0
"""The same for one that has not taken a value or a table."""
WEIGHTS_SECONDS = 3600.0
"""The same for weights, which may be many gigabytes."""
FINISH_SECONDS = 330.0
"""A tracker that has not closed a run by then is left behind; wandb itself waits 300 s for its last upload."""
BROKEN_FINISH_SECONDS = 10.0
"""The same for one that failed before."""
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

    def log_weights(self, path: Path) -> None:  # noqa: B027  # a tracker without a place for them keeps none
        """Receive the folder of the weights that the run is measured by."""

    @abstractmethod
    def finish(self, exit_code: int) -> None:
        """Close the run: 0 done, 1 failed, 130 and 143 interrupted."""

    @abstractmethod
    def where(self) -> str | None:
        """One line that tells how to see the run."""


class Tracker(Component, ABC):
    """Receives what a run logs."""

    @abstractmethod
    def connect(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Begin to receive a run; may raise whatever the tracker's library raises."""

    def start(self, record: RunRecord, config: dict[str, Any], tags: list[str], group: str) -> TrackerSession:
        """Begin to receive a run. Nothing that the tracker does, now or later, ends the run.

        Args:
            record: the run's own record.
            config: the whole config, resolved.
            tags: what the run is found by, such as `tuning=lora`.
            group: the study or sweep that it belongs to.
        """
        return GuardedSession(type(self).__name__, lambda: self.connect(record, config, tags, group), record.log)


class GuardedSession(TrackerSession):
    """A session whose first failure is told once, after which the run goes on without it.

    Its tracker works in a thread of its own, one call after the other. The run waits for each, so that nothing happens
    beside it, and leaves behind a tracker that takes too long.

    Args:
        name: of the tracker.
        connect: begins the session that is guarded.
        note: where the failure is told too, in full.
    """

    def __init__(self, name: str, connect: Callable[[], TrackerSession], note: Callable[[str], None]) -> None:
        self.name, self.note = name, note
        self.is_broken = self._hangs = self._is_closed = False
        self._session: TrackerSession | None = None  # of the thread alone
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"tracker {name}", daemon=True).start()

        def begin() -> None:
            self._session = connect()

        self._called(begin, CONNECT_SECONDS, "connect")

    def log(self, values: dict[str, float], step: int) -> None:
        """Pass values on."""
        self._pass_on(lambda session: session.log(values, step), CALL_SECONDS)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Pass a table on."""
        self._pass_on(lambda session: session.log_table(name, columns, rows), CALL_SECONDS)

    def summarize(self, values: dict[str, Any]) -> None:
        """Pass final values on."""
        self._pass_on(lambda session: session.summarize(values), CALL_SECONDS)

    def log_weights(self, path: Path) -> None:
        """Pass the weights' folder on."""
        self._pass_on(lambda session: session.log_weights(path), WEIGHTS_SECONDS)

    def finish(self, exit_code: int) -> None:
        """Close the run, also where something failed before; a tracker that hangs closes it when it goes on."""
        if self._is_closed:
            return
        self._is_closed = True
        seconds = 0.0 if self._hangs else BROKEN_FINISH_SECONDS if self.is_broken else FINISH_SECONDS
        self._called(lambda: self._session and self._session.finish(exit_code), seconds, "close the run")
        self._calls.put(None)

    def where(self) -> str | None:
        """One line that tells how to see the run; none where there is nothing to see."""
        told: str | None = self._pass_on(lambda session: session.where(), CALL_SECONDS)
        return told

    def _pass_on(self, call: Callable[[TrackerSession], Any], seconds: float) -> Any:
        if self.is_broken or self._is_closed:
            return None
        return self._called(lambda: self._session and call(self._session), seconds, "answer")

    def _called(self, call: Callable[[], Any], seconds: float, what: str) -> Any:
        """What the tracker answers; none where it fails or takes longer."""
        future: Future[Any] = Future()
        self._calls.put((future, call))
        if future not in wait([future], seconds).done:
            self._hangs = True
            self._failed(f"it did not {what} within {seconds:g} s")
            return None
        try:
            return future.result()
        except (Exception, SystemExit) as error:  # whatever a tracker raises, the run goes on
            self._failed(f"{type(error).__name__}: {' '.join(str(error).split())}")
            return None

    def _work(self) -> None:
        """The thread: make the calls that come, until there are no more."""
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

    def _failed(self, why: str) -> None:
        """Tell the first failure."""
        if self.is_broken:
            return
        self.is_broken = True
        told = f"The tracker {self.name} failed, and the run goes on without it: {why}"
        logger.warning(told)
        try:
            self.note(told)
        except Exception as error:  # a full disk, which the record itself will tell of
            logger.debug("The log could not be written: %s", error)


def shown(path: Path) -> str:
    """A path as it can be pasted: relative where that is shorter."""
    relative = os.path.relpath(path)
    return shlex.quote(min(relative, str(path.absolute()), key=len))
