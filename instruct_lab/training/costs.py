"""What a run took: seconds of training, the most memory that was held, the size of what it keeps."""

from __future__ import annotations

import contextlib
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from instruct_lab.records.schema import CHECKPOINTS

PROCESS_STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # written to /proc/self/clear_refs, see proc_pid_clear_refs(5)


class Costs:
    """Measured while a run trains.

    Of memory the peak is told in bytes: of the GPU where there is one, else of this process. A process that made other
    runs before counts anew from here where the system allows it (Linux), so that what this run held is told.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak_bytes: int | None = None

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Measure what is done inside."""
        _reset_peak()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
            self.peak_bytes = _peak_bytes()

    def told(self, run_path: Path) -> dict[str, Any]:
        """Entries of `summary.json`: `training_seconds`, `peak_memory_bytes`, and `weights_bytes`, which is how much
        disk the run's last weights take."""
        kept = [file for folder in (run_path / CHECKPOINTS).glob("last-*") for file in folder.rglob("*")]
        return {
            "training_seconds": round(self.seconds, 3),
            "peak_memory_bytes": self.peak_bytes,
            "weights_bytes": sum(file.stat().st_size for file in kept if file.suffix == ".safetensors"),
        }


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")


def _peak_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB$", PROCESS_STATUS.read_text(encoding="ascii"), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
