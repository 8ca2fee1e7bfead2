"""The CPU cores that this process may use."""

from __future__ import annotations

import os


def usable_cores() -> list[int]:
    """Return the numbers of the CPU cores on which the system lets this process run, in ascending order."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
