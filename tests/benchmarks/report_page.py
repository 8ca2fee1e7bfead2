"""How large the page of a comparison is, and how long headless Chromium takes to open it without a network.

    python tests/benchmarks/report_page.py [RUNS] [STEPS] [EXAMPLES] [NAMES]

A planted sweep: so many runs, logged steps, examples a split, logged metrics (default: 50 2000 400 12). Opening is
measured from the call to the first frame after everything is drawn, five times, each in a browser of its own.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support import planted_sweep
from support.browser import MISSING, Browser, chromium

from instruct_lab.comparison.compare import compare
from instruct_lab.comparison.page.page import write_comparison
from instruct_lab.sweep.record import find_sweep

TIMES = 5


def opening_seconds(path):
    with Browser() as browser:
        started = time.perf_counter()
        browser.open(path)
        browser.wait("document.documentElement.dataset.ready")
        seconds = time.perf_counter() - started
        assert browser.errors == []
        assert browser.requests == [path.as_uri()]
    return seconds


def main():
    if chromium() is None:
        sys.exit(MISSING)
    given = [int(argument) for argument in sys.argv[1:]]
    num_runs, num_steps, num_examples, num_names = (*given, *(50, 2000, 400, 12)[len(given) :])
    with tempfile.TemporaryDirectory() as folder:
        planted_sweep.sweep(Path(folder), num_runs, num_steps, num_examples, num_names)
        records = find_sweep(Path(folder), planted_sweep.SWEEP).runs()
        started = time.perf_counter()
        compared = compare([record for record in records if record.manifest.status == "finished"])
        compared_in = time.perf_counter() - started
        path = write_comparison(Path(folder) / "page.html", records, compared)
        written_in = time.perf_counter() - started - compared_in
        seconds = [opening_seconds(path) for _ in range(TIMES)]
        size = path.stat().st_size / 1e6
        print(f"{num_runs} runs: {size:.2f} MB; compared in {compared_in:.1f} s, written in {written_in:.1f} s")
        print(f"opened in {statistics.median(seconds):.2f} s (median of {TIMES}), at most {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
