"""A sweep in one process against a process for each of its runs: `python tests/benchmarks/shared_process.py [TRIALS]`.

LoRA on SmolLM2-135M, 20 short steps a trial; both sides in one invocation, data and untuned measurement cached for both
beforehand. Prints seconds, their ratio, and whether every metric is the same to the bit.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    "sweep.metric=val/perplexity",
    "tracker=none",
    "data.limit.train=64",
    "data.limit.validation=16",
    "batching.batch_size=1",
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


def run(*arguments, folder):
    started = time.perf_counter()
    command = [sys.executable, "-m", "instruct_lab.cli", "train", *arguments, *SETTINGS]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def told(folder):
    paths = sorted(Path(folder).glob("runs/*/*/summary.json"))
    runs = []
    for path in paths:
        lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        kept = [{name: value for name, value in line.items() if "second" not in name} for line in lines]
        runs.append((kept, json.loads(path.read_text())["metrics"]))
    return runs


def main():
    """Measure and print."""
    rates = RATES[: int(sys.argv[1]) if len(sys.argv) > 1 else len(RATES)]
    with (
        tempfile.TemporaryDirectory() as warm,
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as many,
    ):
        run(f"optimizer.lr={rates[0]}", folder=warm)
        shared = run("-m", f"optimizer.lr={','.join(rates)}", folder=one)
        alone = sum(run(f"optimizer.lr={rate}", folder=many) for rate in rates)
        same = told(one) == told(many)
    counts = f"{len(rates)} trials: one process {shared:.0f} s, {len(rates)} processes {alone:.0f} s"
    print(f"{counts}, ratio {shared / alone:.2f}")
    print(f"metrics identical to the bit: {same}")


if __name__ == "__main__":
    main()
