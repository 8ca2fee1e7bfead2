"""What a short training step costs by how long torch's CPU threads spin before they sleep.

Command: python tests/benchmarks/step_by_spinning.py
One optimizer step of LoRA on the default model (downloaded at first use) with 13, 27 and 100 tokens, median of 12;
every setting twice, alternating.
"""

import os
import subprocess
import sys

from instruct_lab.cli import SPINS

SETTINGS = {"2,000": "2000", "as the command line sets it": SPINS, "50,000": "50000"}
WORK = """
import statistics, time
from pathlib import Path
import torch
from instruct_lab.experiment.check import check
experiment = check([]).or_refuse().experiment
cache = Path(experiment.cache_path).expanduser()
tokenizer = experiment.model.load_tokenizer(cache)
model = experiment.tuning.apply(experiment.model.load(tokenizer, cache)).model.train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)

def milliseconds(tokens, steps=12):
    told = []
    for _ in range(steps):
        ids = torch.randint(10, 1000, (1, tokens))
        started = time.perf_counter()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        told.append(1000 * (time.perf_counter() - started))
    return statistics.median(told)

milliseconds(27, 4)
print(*(f"{milliseconds(tokens):.0f}" for tokens in (13, 27, 100)))
"""


def main():
    """Print one row for each setting and round."""
    for _ in range(2):
        for name, spins in SETTINGS.items():
            env = {**os.environ, "GOMP_SPINCOUNT": spins}
            done = subprocess.run([sys.executable, "-c", WORK], env=env, check=True, capture_output=True, text=True)
            print(f"{name:<28} {done.stdout.strip().splitlines()[-1]} ms", flush=True)


if __name__ == "__main__":
    main()
