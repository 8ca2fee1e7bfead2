"""Processor time of an example in preprocessing and in training, for data sets of different sizes.

Command: python tests/benchmarks/cost_by_examples.py [ROWS ...]
Default: 1000 10000 100000. Runs with a random model of a few thousand parameters on short conversations, one after the
other in one process, without cached results. Preprocessing is all that precedes training: reading, `standard`, the
splits, tokenising, loading the model. Training is everything from the first step to the last, with two validations on a
tenth of the rows. Sizes up to 10,000 rows are measured three times, and the median is taken.

The cost of an example is how much more a data set costs than the next smaller one, divided by how many more examples it
has, so that what every run costs once is left out. The first size is compared with a tenth of it. The process uses one
core, because the second process that preprocesses long data elsewhere costs about a second of its own.
"""

import contextlib
import itertools
import logging
import os
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pytorch_lightning as pl
import synthetic
import torch

import instruct_lab as il

SIZES = [1_000, 10_000, 100_000]
SETTINGS = [
    "data=local_messages",
    "model=tiny_random",
    "tuning=full",
    "batching.batch_size=16",
    "tracker=none",
    "evaluation.splits=[]",
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=0",
    "+callbacks.marks._target_=cost_by_examples.Marks",
]


def used():
    """Processor seconds of this process and of those that it started and that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class Marks(pl.Callback):
    """Notes the processor time at the start and at the end of training."""

    marks: list[float] = []

    def on_train_start(self, trainer, pl_module):
        self.marks.append(used())

    def on_train_end(self, trainer, pl_module):
        self.marks.append(used())


def measure(rows):
    """Processor seconds before training and of training."""
    from cost_by_examples import Marks  # the module that the run imports, not this one as `__main__`

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        synthetic.write(path, rows, short=True)
        Marks.marks.clear()
        started = used()
        paths = [f"data.train.file.path={path}", f"cache_path={folder}/cache", f"runs_path={folder}/runs"]
        with open(os.devnull, "w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            il.train([*SETTINGS, *paths], allow=["cost_by_examples.Marks"])
        training, ended = Marks.marks
    return training - started, ended - training


def main(sizes):
    """Measure and print."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    sizes = [sizes[0] // 10, *sizes]
    measure(sizes[0])  # imports what every run imports
    seconds = {}
    for rows in sizes:
        found = [measure(rows) for _ in range(3 if rows <= SIZES[1] else 1)]
        seconds[rows] = [statistics.median(column) for column in zip(*found, strict=True)]
        prepared, trained = seconds[rows]
        print(f"{rows:,} rows: {prepared:.2f} s before training, {trained:.2f} s of training", flush=True)
    costs = []
    for few, many in itertools.pairwise(sizes):
        prepared, trained = ((seconds[many][part] - seconds[few][part]) / (many - few) * 1e6 for part in (0, 1))
        costs.append(prepared + trained)
        print(f"{few:,} to {many:,} rows: {prepared:.0f} + {trained:.0f} = {costs[-1]:.0f} microseconds an example")
    print(f"largest against smallest cost: {max(costs) / min(costs):.3f}")


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    main([int(text) for text in sys.argv[1:]] or SIZES)
