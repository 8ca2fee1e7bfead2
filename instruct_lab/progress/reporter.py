"""Report on standard error which stage of its work a command has reached; a separate thread writes the reports."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

from instruct_lab.launch import is_first_process
from instruct_lab.progress.line import LiveLine
from instruct_lab.progress.stages import Stage, describe

REDRAW_SECONDS = 0.25
"""Time in seconds between two drawings of the line in a terminal."""
FIRST_LINE_SECONDS = 2.0
"""Outside a terminal: time without output after which a line is written about a stage that has had no line yet."""
LINE_SECONDS = 10.0
"""Outside a terminal: minimum time between two lines about the same stage."""
LINES_SHARE = 0.05
"""Outside a terminal: time between two lines about the same stage, as a fraction of the time since the stage began.

The time is at least `LINE_SECONDS` and at most a minute.
"""


class Reporter:
    """Writes reports on the stages in progress; a stage can begin inside another stage.

    In a terminal it redraws one line. Elsewhere, such as in a log file, it writes a new line for each report.

    Args:
        stream: the stream to write to.
        is_announced: whether the first stage is reported at once. Outside a terminal, any other stage is reported only
            if it takes seconds.
    """

    def __init__(self, stream: TextIO, is_announced: bool) -> None:
        self.lock = threading.RLock()
        self.line = LiveLine(stream) if _is_terminal(stream) else None
        self.stages: list[Stage] = []
        self._stream = stream
        self._is_announced = is_announced
        self._wakes = threading.Event()
        self._has_ended = False
        self._written: tuple[Stage, ...] = ()  # the stages of the last plain line
        self._written_at = -FIRST_LINE_SECONDS if is_announced else time.monotonic()
        self._thread: threading.Thread | None = None

    def open(self, stage: Stage) -> None:
        """Begin to report on a stage, which starts inside the stages that are already in progress."""
        with self.lock:
            self.stages.append(stage)
            if self.line is not None:
                if self._is_announced:
                    self.line.draw(self.stages)
            elif self._is_announced and not self._written:
                self._write_line()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()
        self._wakes.set()

    def close(self, stage: Stage) -> None:
        """Stop reporting on a stage, because it has ended."""
        with self.lock:
            self.stages.remove(stage)
            if not self.stages:
                self._wakes.clear()
                if self.line is not None:
                    self.line.erase()

    def end(self) -> None:
        """End the thread; nothing is written afterwards."""
        with self.lock:
            self._has_ended = True
            if self.line is not None:
                self.line.erase()
        self._wakes.set()

    def note_output(self) -> None:
        """Delay the next report in a log file, because other output has just shown that the command is working."""
        self._written_at = time.monotonic()

    def _run(self) -> None:
        while not self._has_ended:
            self._wakes.wait()
            time.sleep(REDRAW_SECONDS)
            with self.lock:
                if self.stages and not self._has_ended:
                    self._report()

    def _report(self) -> None:
        if self.line is not None:
            self.line.draw(self.stages)
            return
        innermost, now = self.stages[-1], time.monotonic()
        is_new = innermost not in self._written
        quiet = now - self._written_at
        if quiet >= (FIRST_LINE_SECONDS if is_new or innermost.wants_line else _interval(now - innermost.started)):
            self._write_line()

    def _write_line(self) -> None:
        self._written, self._written_at = tuple(self.stages), time.monotonic()
        self.stages[-1].wants_line = False
        self._stream.write(describe(self.stages) + "\n")
        self._stream.flush()


def _interval(elapsed: float) -> float:
    return min(60.0, max(LINE_SECONDS, LINES_SHARE * elapsed))


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class BesideLine:
    """Wraps standard output or error while a progress line is shown, so that other output appears above that line.

    The progress line is hidden while the output ends in the middle of a line, as after a question to the user.
    """

    def __init__(self, stream: TextIO, reporter: Reporter) -> None:
        self._stream, self._reporter = stream, reporter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Erase the progress line, and write `text` in its place; the reporter's thread draws the line again later."""
        with self._reporter.lock:
            self._reporter.note_output()
            if self._reporter.line is not None:
                self._reporter.line.make_room(text)
            return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Erase the progress line, and write several texts in its place."""
        for line in lines:
            self.write(line)


_current: Reporter | None = None


@contextlib.contextmanager
def reporting(*, is_announced: bool = False) -> Iterator[None]:
    """Report on standard error the stages that are opened in this `with` block.

    Inside a nested block, only the stages of the nested block are reported. In a run on several devices, only the first
    process reports.

    Args:
        is_announced: whether the first stage is reported at once, even if it takes little time.
    """
    global _current
    if not is_first_process():
        yield
        return
    before, streams = _current, (sys.stdout, sys.stderr)
    reporter = _current = Reporter(sys.stderr, is_announced)
    sys.stderr = BesideLine(sys.stderr, reporter)
    if reporter.line is not None and sys.stdout.isatty():
        sys.stdout = BesideLine(sys.stdout, reporter)
    try:
        yield
    finally:
        reporter.end()
        _current, (sys.stdout, sys.stderr) = before, streams


def ensure_reporting() -> contextlib.AbstractContextManager[None]:
    """Report the stages that are opened in this `with` block; do nothing inside a `reporting` block.

    A run that a Python program starts needs this, because no command has entered a `reporting` block around it.
    """
    return reporting() if _current is None else contextlib.nullcontext()


@contextlib.contextmanager
def stage(name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
    """Report a stage of the work while the `with` block runs; yield the stage, whose methods update its progress.

    Args:
        name: a text that says what is being done, such as `loading the weights`.
        total: number of units of work; `None` if it is not known.
        unit: name of one unit, such as `step`.
    """
    opened, reporter = Stage(name, total, unit), _current
    if reporter is None:
        yield opened
        return
    reporter.open(opened)
    try:
        yield opened
    finally:
        reporter.close(opened)


def advance(count: int = 1) -> None:
    """Report that `count` more units of work are done in the innermost stage that is in progress."""
    if _current is not None and _current.stages:
        _current.stages[-1].advance(count)
