"""What a second busy process costs decoding, by how long torch's CPU threads spin before they sleep.

Command: python tests/benchmarks/decoding_beside_another_process.py
Downloads the default model (93 MB) at first use.
"""

import os
import subprocess
import sys
import time

from instruct_lab.cli import SPINS

SETTINGS = {"libgomp's default": None, "2,000": "2000", "as the command line sets it": SPINS}
WORK = """
import sys, time
from pathlib import Path
from instruct_lab.experiment.check import check
experiment = check([]).or_refuse().experiment
cache = Path(experiment.cache_path).expanduser()
tokenizer = experiment.model.load_tokenizer(cache)
model = experiment.model.load(tokenizer, cache).model
prompts = [tokenizer("word " * 40)["input_ids"]] * 32
experiment.generation.generate_ids(model, prompts[:1], [])
started = time.perf_counter()
import dataclasses
dataclasses.replace(experiment.generation, max_new_tokens=12).generate_ids(model, prompts, [])
print(time.perf_counter() - started)
"""


def seconds(spins, processes):
    """Seconds that each of several processes took, started together."""
    env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    env |= {"GOMP_SPINCOUNT": spins} if spins is not None else {}
    started = [
        subprocess.Popen([sys.executable, "-c", WORK], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    return [float(process.communicate()[0].split()[-1]) for process in started]


def main():
    """Print one row for each setting."""
    for name, spins in SETTINGS.items():
        (single,) = seconds(spins, 1)
        together = max(seconds(spins, 2))
        print(f"{name:<28} one {single:6.1f} s   two at once {together:6.1f} s   ratio {together / single:5.1f}")
        time.sleep(1)


if __name__ == "__main__":
    main()
