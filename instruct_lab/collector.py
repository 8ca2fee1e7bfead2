"""Let Python's garbage collector run less often while libraries are imported or rows of data are read.

Importing and reading create hundreds of thousands of objects that stay in use. By default, the collector checks them
repeatedly without freeing any. In a short run, this takes a quarter of the time before the first training step.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
from collections.abc import Iterator

RARE = (1_000_000, 20, 100)
"""Thresholds for `gc.set_threshold` with which the collector hardly ever runs before the first step of a run."""
USUAL = gc.get_threshold()
"""The collector's thresholds with which this process started."""


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Run the garbage collector less often until the block ends, or until `usual_collections` is called."""
    before = gc.get_threshold()
    collect_rarely()
    try:
        yield
    finally:
        gc.set_threshold(*before)


def collect_rarely() -> None:
    """Run the garbage collector less often from now on."""
    gc.set_threshold(*RARE)


def usual_collections() -> None:
    """Run the garbage collector as often as usual again, but exempt the objects that exist now from collection.

    The function does nothing if the collector runs as often as usual already.
    """
    if gc.get_threshold() == RARE != USUAL:
        gc.freeze()
        gc.set_threshold(*USUAL)


def skip_last_collection() -> None:
    """Skip the garbage collection when this process ends, which would take a quarter of a short command's time."""
    atexit.register(gc.freeze)
