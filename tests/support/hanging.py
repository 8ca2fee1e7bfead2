"""Wait in a test, and fail one whose code takes hours where seconds are enough.

A test that waits for ever is ended by pytest-timeout (`timeout` in pyproject.toml), so that nothing else needs a limit.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

HANG_SECONDS = 300
"""Seconds after which code that waits counts as hanging: many times what it takes, even beside other work."""
CPU_SECONDS = 60
"""Seconds of this process's own computation after which code counts as hanging; other work does not add to them."""


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """Fail if the block takes longer than `HANG_SECONDS`, or computes longer than `CPU_SECONDS`."""
    started, computed = time.monotonic(), time.process_time()
    yield
    assert time.process_time() - computed < CPU_SECONDS, "the code computes without end"
    assert time.monotonic() - started < HANG_SECONDS, "the code hangs"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    while not condition():
        time.sleep(0.01)
