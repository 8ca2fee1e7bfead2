"""Fail a test whose code hangs, or takes hours where seconds are enough."""

import contextlib
import time
from collections.abc import Iterator

HANG_SECONDS = 60
"""Seconds after which code counts as hanging: many times what it takes, even on a slow machine with other work."""


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """Fail if the block takes longer than `HANG_SECONDS`."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < HANG_SECONDS, "the code hangs"
