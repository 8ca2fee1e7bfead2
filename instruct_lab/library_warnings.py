"""Keep Python warnings of libraries off the screen, and write them to the log of a run or a sweep instead.

Warnings of other code, such as a user's own classes, are shown as usual.
"""

from __future__ import annotations

import contextlib
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

MAX_WAITING = 100
"""Maximum number of warnings that are kept until a log is opened."""

_waiting: list[str] = []
_logs: list[Callable[[str], None]] = []


@contextlib.contextmanager
def off_screen() -> Iterator[None]:
    """Keep warnings of libraries off the screen while the block runs, and pass them to the log that `logged` opens.

    Until a log is open, up to 100 different warnings are stored for it.
    """
    folders = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "purelib", "platlib"))
    show = warnings.showwarning

    def log(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None or not str(Path(filename).resolve()).startswith(folders):
            show(message, category, filename, lineno, file, line)
        else:
            _log(f"{category.__name__}: {' '.join(str(message).split())} ({filename}, line {lineno})")

    warnings.showwarning = log
    try:
        yield
    finally:
        warnings.showwarning = show
        _waiting.clear()


def _log(text: str) -> None:
    if _logs:
        _logs[-1](text)
    elif text not in _waiting and len(_waiting) < MAX_WAITING:
        _waiting.append(text)


@contextlib.contextmanager
def logged(write: Callable[[str], None]) -> Iterator[None]:
    """Write warnings of libraries to a log while the block runs.

    The warnings that `off_screen` has stored so far are written at the beginning of the block.

    Args:
        write: function that writes one text to the log.
    """
    _logs.append(write)
    for text in _waiting:
        write(text)
    _waiting.clear()
    try:
        yield
    finally:
        _logs.pop()
