"""Seconds that `instruct-lab check` takes as a whole process, for every study and a set of broken configs.

Command: python tests/benchmarks/check_seconds.py
"""

import statistics
import subprocess
import sys
import time

CONFIGS = [
    [],
    ["experiments=dry_run"],
    ["data=stdlib_functions", "model=tiny_random", "tuning=full", "tracker=[wandb,csv]"],
    ["tunning=lora", "tuning.rank=3", "optimizer.lr=fast", "trainer.precision=bf17", "metrics=[nothing]"],
]


def main():
    """Print the median and the maximum over five runs of each config, after a first one that fills the disk cache."""
    for overrides in CONFIGS:
        seconds = []
        for _ in range(6):
            started = time.perf_counter()
            command = [sys.executable, "-m", "instruct_lab.cli", "check", *overrides]
            subprocess.run(command, capture_output=True, check=False)
            seconds.append(time.perf_counter() - started)
        name = " ".join(overrides) or "(the default)"
        print(f"median {statistics.median(seconds[1:]):.2f} s, max {max(seconds[1:]):.2f} s: {name}")


if __name__ == "__main__":
    main()
