"""Wait in a test, and fail one whose code takes hours where seconds are enough.

A test that waits for ever is ended by pytest-timeout (`timeout` in pyproject.toml), so that nothing else needs a limit.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

HANG_SECONDS = 300
"""Seconds after which code counts as hanging: many times what it takes, even on a slow machine with other work."""


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """Fail if the block takes longer than `HANG_SECONDS`."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < HANG_SECONDS, "the code hangs"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    while not condition():
        time.sleep(0.01)
