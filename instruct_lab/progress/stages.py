"""One stage of a command's work: its name, its progress, and an estimate of the time that is left."""

from __future__ import annotations

import time
from collections import deque

from instruct_lab.terminal import visible

MAX_TICKS = 50
"""Number of recent updates from which the speed is estimated."""
TICK_SECONDS = 0.2
"""Time within which successive updates count as one when the speed is estimated."""
SLOW_SECONDS = 1.0
"""Minimum time that one unit of work takes for the report to include the seconds for each unit."""


class Stage:
    """A stage of a command's work.

    Args:
        name: a text that says what is being done, such as `loading the weights`.
        total: number of units of work; `None` if it is not known.
        unit: name of one unit of work, such as `step`; if it is empty, the report shows only numbers.
    """

    def __init__(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.name, self.total, self.unit = name, total, unit
        self.note = ""
        self.wants_line = False
        self.done = 0
        self.started = time.monotonic()
        self._ticks: deque[tuple[float, float]] = deque([(self.started, 0.0)], maxlen=MAX_TICKS)

    def advance(self, count: int = 1) -> None:
        """Report that `count` more units of work are done."""
        self.update(self.done + count)

    def update(self, done: int, *, ahead: float = 0.0, note: str | None = None) -> None:
        """Report how much of the work is done.

        Args:
            done: number of complete units of work.
            ahead: completed fraction of the next units, for example 0.5 if half of the next unit is done. The progress
                bar and the estimate of the remaining time use it.
            note: a text to show after the numbers; `None` keeps the text of the last call.
        """
        self.done = done
        if note is not None:
            self.note = note
        now, reached = time.monotonic(), done + ahead
        if reached > self._ticks[-1][1]:
            if len(self._ticks) > 2 and now - self._ticks[-2][0] < TICK_SECONDS:
                self._ticks.pop()
            self._ticks.append((now, reached))

    def start_at(self, done: int) -> None:
        """Set how many units of work were already done before the stage began, as in a resumed run."""
        self.done = done
        self._ticks.clear()
        self._ticks.append((time.monotonic(), float(done)))

    @property
    def reached(self) -> float:
        """The number of units of work that are done, including fractions of incomplete units."""
        return self._ticks[-1][1]

    @property
    def seconds_each(self) -> float | None:
        """The average seconds that one unit of work has recently taken; `None` before any work is done.

        After the second progress update, the time before the first update no longer counts, because it often includes
        the loading of libraries.
        """
        ticks = list(self._ticks)[1:] if len(self._ticks) > 2 else list(self._ticks)
        (first, start), (last, end) = ticks[0], ticks[-1]
        return (last - first) / (end - start) if end > start else None

    def seconds_left(self) -> float | None:
        """Estimate the remaining seconds; `None` if the total is not known or nothing is done yet.

        Between two progress updates the estimate decreases as time passes. As only one unit of work can be in progress,
        it decreases by at most the time for one unit.
        """
        each = self.seconds_each
        if self.total is None or each is None:
            return None
        updated, done = self._ticks[-1]
        left = max(0.0, self.total - done)
        return max(each * left - (time.monotonic() - updated), each * max(0.0, left - 1))

    def describe(self, *, is_innermost: bool = True) -> str:
        """Return a text for the report: the name of this stage, its progress, its note and its times.

        Args:
            is_innermost: whether no other stage is in progress inside this one. Otherwise, note and times are left out.
        """
        parts = [self._counts()]
        if is_innermost:
            parts += [self.note, *self._times()]
        text = ", ".join(part for part in parts if part)
        return f"{self.name}: {text}" if text else self.name

    def _counts(self) -> str:
        unit = f" {self._units(self.total or self.done)}" if self.unit else ""
        if self.total is not None:
            return f"{self.done:,}/{self.total:,}{unit}"
        return f"{self.done:,}{unit}" if self.done else ""

    def _units(self, count: int) -> str:
        if count == 1 or self.unit.isupper():  # a unit of measurement
            return self.unit
        return f"{self.unit}{'es' if self.unit.endswith('ch') else 's'}"

    def _times(self) -> list[str]:
        each, left = self.seconds_each, self.seconds_left()
        times = []
        if self.unit and self.total is not None and each is not None and each >= SLOW_SECONDS:
            times.append(f"{each:.1f} s/{self.unit}")
        if left is not None:
            times.append(f"{format_seconds(left)} left")
        else:
            elapsed = time.monotonic() - self.started
            suffix = "" if self.total is None else " so far"
            times.append(f"{format_seconds(elapsed)}{suffix}" if elapsed >= 1 else "")
        return times


def describe(stages: list[Stage]) -> str:
    """Return one line of text that describes all stages in progress, separated by colons.

    Args:
        stages: the stages that have begun and not ended; the innermost comes last.
    """
    text = ": ".join(stage.describe(is_innermost=stage is stages[-1]) for stage in stages)
    return visible(" ".join(text.split()))


def format_seconds(seconds: float) -> str:
    """Format a duration: `40 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"
