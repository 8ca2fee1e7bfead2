"""Memory, open files and seconds of a long sweep in one process.

Used as `python tests/benchmarks/soak.py [TRIALS]` (default: 200). A sweep of LoRA on a tiny random model, a few steps a
trial. After each trial, the resident memory and the number of open files of the process are read from /proc. Prints
their slopes per trial over the second half (least squares), and the median seconds of the last twentieth of the trials
against those of the first twentieth after the tenth trial.
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    "model=tiny_random",
    "data=stdlib_functions",
    "tracker=none",
    "metrics=perplexity",
    "tuning=lora",
    "data.limit.train=32",
    "data.limit.validation=8",
    "data.limit.test=8",
    "trainer.max_steps=2",
    "evaluation.max_examples=4",
    "evaluation.during_examples=0",
    "evaluation.baselines=false",
    "evaluation.show_samples=0",
    "sweep.metric=val/perplexity",
]
WARM_UP = 10


def read_process(pid):
    """Resident megabytes and number of open files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def slope(values):
    return statistics.linear_regression(range(len(values)), values).slope


def main(trials):
    rates = ",".join(f"{1e-4 * 1.01**trial:.6g}" for trial in range(trials))
    command = [sys.executable, "-m", "instruct_lab.cli", "train", "-m", f"optimizer.lr={rates}", *SETTINGS]
    ended, memory, open_files = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if len(list(Path(folder).glob("runs/*/*/summary.json"))) > len(ended):
                ended.append(time.perf_counter())
                resident, files = read_process(process.pid)
                memory.append(resident)
                open_files.append(files)
            time.sleep(0.02)
        if process.returncode or len(ended) < trials * 0.95:
            sys.exit(f"the sweep ended with {process.returncode} after {len(ended)} trials")
    seconds = [later - earlier for earlier, later in itertools.pairwise(ended)]
    few, half = max(1, trials // 20), trials // 2
    first, last = statistics.median(seconds[WARM_UP : WARM_UP + few]), statistics.median(seconds[-few:])
    print(f"memory {memory[WARM_UP]:.0f} MB to {memory[-1]:.0f} MB, {slope(memory[half:]) * 1000:.1f} kB a trial")
    print(f"open files {open_files[WARM_UP]} to {open_files[-1]}, {slope(open_files[half:]):.4f} a trial")
    print(f"seconds a trial {first:.3f} to {last:.3f}, ratio {last / first:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
