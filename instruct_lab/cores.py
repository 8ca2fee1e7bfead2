"""The CPU: the cores that this process may use, and facts about the processor, such as its vendor."""

from __future__ import annotations

import os
import re
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
"""The file in which Linux describes the processor, in lines such as `vendor_id : GenuineIntel`."""


def usable_cores() -> list[int]:
    """Return the ids of the CPU cores on which the operating system lets this process run, in ascending order."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def processor_fact(names: str) -> str | None:
    """Return one fact about the processor, such as its vendor, from Linux's file `/proc/cpuinfo`.

    Args:
        names: the name of the fact in this file; if it has different names on different processors, all of them,
            separated by `|`, such as `flags|Features`.

    Returns:
        The text after the name; `None` if there is no such file, as on other systems, or no such fact in it.
    """
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^(?:{names})\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else None
