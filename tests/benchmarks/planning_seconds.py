"""Seconds to check the points of a sweep, with the option files read once and read for every point.

    python tests/benchmarks/planning_seconds.py [POINTS]

Points of the default study that differ in the learning rate (default: 64), checked both ways alternately, three times.
"""

import statistics
import sys
import time

from instruct_lab.config.shared_files import SharedFiles
from instruct_lab.experiment.check import check


def seconds(num_points, load):
    started = time.perf_counter()
    for number in range(num_points):
        overrides = [f"optimizer.lr={(number + 1) * 1e-5}", "trainer.max_steps=20", "metrics=perplexity"]
        check(overrides, load=load).or_refuse()
    return time.perf_counter() - started


def read_files(overrides):
    """Compose a config from files that are read for it."""
    return SharedFiles().load(overrides)


def main():
    """Print both and their ratio."""
    num_points = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    seconds(1, read_files)
    rounds = [(seconds(num_points, read_files), seconds(num_points, SharedFiles().load)) for _ in range(3)]
    each, once = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{num_points} points: {each:.2f} s, files read once {once:.2f} s, ratio {each / once:.1f}")


if __name__ == "__main__":
    main()
