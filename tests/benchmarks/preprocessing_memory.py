"""Peak memory of reading, preprocessing and tokenising, for growing numbers of rows: it should stay the same.

Command: python tests/benchmarks/preprocessing_memory.py [ROWS ...]

Memory is that of anonymous pages, sampled every 20 ms: the system can reclaim pages of mapped Arrow files at any time.
Each size is measured in a process of its own; the memory of its worker processes is printed beside it.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

SIZES = (10_000, 100_000, 1_000_000)


def anonymous_megabytes(process: str = "self") -> float:
    """Memory of a process without pages of files; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def shared_megabytes() -> float:
    """The same for all child processes, except those that have forked and not yet started their program."""
    own = Path("/proc/self/cmdline").read_bytes()
    total = 0.0
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for number in task.read_text().split():
                if Path(f"/proc/{number}/cmdline").read_bytes() != own:
                    total += anonymous_megabytes(number)
    return total


class Peak(threading.Thread):
    """Samples the memory until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.megabytes = self.shared = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        """Sample."""
        while not self.stopped.wait(0.02):
            self.megabytes = max(self.megabytes, anonymous_megabytes())
            self.shared = max(self.shared, shared_megabytes())


def measure(count: int) -> None:
    """Print the peak of one size."""
    import synthetic
    from preprocessing_speed import experiment

    from instruct_lab.data import Audit
    from instruct_lab.training.datamodule import InstructionData

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        size = synthetic.write(path, count, short=True)
        run = experiment(path)
        tokenizer = run.model.load_tokenizer(Path(run.cache_path).expanduser())
        before, peak, started = anonymous_megabytes(), Peak(), time.perf_counter()
        peak.start()
        data = InstructionData(run, tokenizer, Path(folder) / "cache", Audit())
        seconds = time.perf_counter() - started
        peak.stopped.set()
        print(
            f"{count:9,} rows of {size:.0f} bytes: {before:5.0f} MB before, peak {peak.megabytes:5.0f} MB "
            f"and {peak.shared:5.0f} MB in workers, "
            f"{len(data.examples['train']):,} training examples, {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        measure(int(sys.argv[2]))
    else:
        for rows in [int(text) for text in sys.argv[1:]] or SIZES:
            subprocess.run([sys.executable, __file__, "--one", str(rows)], check=True)
