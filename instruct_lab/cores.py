"""The CPU: the cores that this process may use, and what the operating system knows about the processor."""

from __future__ import annotations

import os
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
"""The file in which Linux describes the processor."""


def usable_cores() -> list[int]:
    """Return the ids of the CPU cores on which the operating system lets this process run, in ascending order."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def processor_fact(names: str) -> str | None:
    """Return what Linux knows about the processor, such as its vendor; `None` on other systems or if it is not known.

    Args:
        names: the names that the fact has on different processors, separated by `|`, such as `flags|Features`.
    """
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^(?:{names})\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None
