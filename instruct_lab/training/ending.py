"""Handle the end of a run: signals, and the status in the run's record."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from instruct_lab.callbacks import Pruned

if TYPE_CHECKING:
    from instruct_lab.tracker.recorder import Recorder


class Interrupted(BaseException):
    """Raised on SIGINT or SIGTERM; it is not an `Exception`, so that handlers of failures do not catch it."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number  # 130 for SIGINT, 143 for SIGTERM
        super().__init__(signal.Signals(number).name)


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise `Interrupted` on SIGINT and SIGTERM; Lightning itself would end a terminated run with exit code 0."""

    def raise_interrupted(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    previous = {number: signal.signal(number, raise_interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def record_ending(recorder: Recorder) -> Iterator[None]:
    """Write the status of an unfinished run and the traceback of a failure to the record; close the trackers."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    except Interrupted as interrupted:
        exit_code = interrupted.exit_code
        recorder.record.write_manifest(status="interrupted")
        raise
    except Pruned as pruned:
        exit_code = 0
        recorder.record.write_manifest(status="pruned")
        recorder.record.log(str(pruned))
        raise
    except BaseException as error:
        recorder.record.write_failure(error)
        raise
    finally:
        recorder.finish(exit_code)
