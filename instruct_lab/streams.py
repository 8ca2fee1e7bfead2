"""Keep a command running when writing to standard output or standard error fails.

Writing fails if the reader of the stream has ended (as in `| head`), if the disk is full or if the terminal is closed.
Since a run must not depend on whether its output is read, such a stream drops its output instead of raising an error.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO


class QuietStream:
    """A text stream that drops all output after the first write that fails.

    After a failure, the stream's file descriptor is redirected to the null device, so that output of libraries and
    child processes, and the interpreter's flush at exit, cannot fail either. Characters that the stream's encoding
    cannot express are written as backslash escapes.

    Args:
        stream: the stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | ValueError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, and return its length even if the text is dropped."""
        if self.error is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                return self.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            except (OSError, ValueError) as error:  # a ValueError says that the stream is closed
                self._go_quiet(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream, unless a write has failed."""
        if self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._go_quiet(error)

    def _go_quiet(self, error: OSError | ValueError) -> None:
        self.error = error
        with contextlib.suppress(OSError, ValueError):
            _lead_to_null(self._stream.fileno())


@contextlib.contextmanager
def quiet_streams() -> Iterator[QuietStream]:
    """Replace standard output and standard error by streams that never raise; yield the stream for standard output.

    A stream that is closed from the start, as by the shell's `>&-`, is redirected to the null device. Otherwise the
    next opened file would get its descriptor, and the output of C libraries would be written to that file.
    """
    for descriptor in (1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            _lead_to_null(descriptor)
    before = sys.stdout, sys.stderr
    output, errors = (QuietStream(stream or open(os.devnull, "w", encoding="utf-8")) for stream in before)  # noqa: SIM115
    sys.stdout, sys.stderr = output, errors
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _lead_to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
