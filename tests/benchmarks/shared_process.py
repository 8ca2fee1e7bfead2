"""A sweep in one process against a process for each of its runs.

Used as `python tests/benchmarks/shared_process.py [ROUNDS [TOKENS]]`. Eight trials of LoRA on SmolLM2-135M, 20 steps
each of one string of at most TOKENS tokens (default: 16). Both sides run in one invocation; data and the measurement
before training are cached first. Half of the processes run before the sweep and half after it, so that a machine that
gets slower or faster in between favours neither side. Prints each round's seconds and CPU seconds with their ratios,
the median ratio, and whether every metric is the same to the bit.
"""

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    "sweep.metric=val/perplexity",
    "tracker=none",
    "data.limit.train=256",
    "data.limit.validation=64",
    "batching.batch_size=1",
    "generation.max_new_tokens=8",
    "template=plain",
    "metrics=perplexity",
    "trainer.max_steps=20",
    "trainer.val_check_interval=null",
    "evaluation.max_examples=4",
    "evaluation.splits=[validation]",
    "evaluation.during_examples=0",
    "evaluation.baselines=false",
    "evaluation.show_samples=0",
]
RATES = ["1e-4", "2e-4", "3e-4", "5e-4", "1e-3", "2e-3", "3e-3", "5e-3"]


@dataclasses.dataclass
class Clock:
    """Wall seconds, and CPU seconds of processes that have ended."""

    wall: float = 0.0
    cpu: float = 0.0

    def run(self, *arguments, folder):
        """Train in a process and wait for it."""
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "instruct_lab.cli", "train", *arguments, *SETTINGS]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.wall += time.perf_counter() - started
        self.cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def read_results(folder):
    paths = sorted(Path(folder).glob("runs/*/*/summary.json"))
    runs = []
    for path in paths:
        lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        kept = [{name: value for name, value in line.items() if "second" not in name} for line in lines]
        runs.append((kept, json.loads(path.read_text())["metrics"]))
    return runs


def one_round(limit):
    """The ratio of wall seconds, and whether all metrics are the same."""
    one, many, half = Clock(), Clock(), len(RATES) // 2
    with tempfile.TemporaryDirectory() as together, tempfile.TemporaryDirectory() as apart:
        for rate in RATES[:half]:
            many.run(f"optimizer.lr={rate}", limit, folder=apart)
        one.run("-m", f"optimizer.lr={','.join(RATES)}", limit, folder=together)
        for rate in RATES[half:]:
            many.run(f"optimizer.lr={rate}", limit, folder=apart)
        same = read_results(together) == read_results(apart)
    print(
        f"{len(RATES)} trials: one process {one.wall:.1f} s ({one.cpu:.0f} of CPU), {len(RATES)} processes "
        f"{many.wall:.1f} s ({many.cpu:.0f}), ratio {one.wall / many.wall:.3f} ({one.cpu / many.cpu:.3f})",
        flush=True,
    )
    return one.wall / many.wall, same


def main():
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    limit = f"batching.max_tokens={sys.argv[2] if len(sys.argv) > 2 else 16}"
    with tempfile.TemporaryDirectory() as warm:
        Clock().run(f"optimizer.lr={RATES[0]}", limit, folder=warm)
    ratios, same = zip(*(one_round(limit) for _ in range(rounds)), strict=True)
    print(f"median ratio {statistics.median(ratios):.3f}; metrics identical to the bit: {all(same)}")


if __name__ == "__main__":
    main()
