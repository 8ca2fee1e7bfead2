"""The peak memory use of a run."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from pathlib import Path

import torch

PROCESS_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """Return the peak memory use so far, in bytes: of the GPU or, without a GPU, of this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB$", PROCESS_STATUS.read_text(encoding="ascii"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
