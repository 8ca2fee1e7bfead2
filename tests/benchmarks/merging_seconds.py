"""What merging a LoRA adapter into the default model takes, beside PEFT's way, and whether the weights are the same.

    python tests/benchmarks/merging_seconds.py

Both in turns, five times, each on a copy of the same adapted model; the copy is outside the time.
"""

import copy
import statistics
import time
from pathlib import Path

import torch

from instruct_lab.experiment.check import check


def main():
    """Print both and their ratio."""
    experiment = check([]).or_refuse().experiment
    cache = Path(experiment.cache_path).expanduser()
    adapted = experiment.tuning.apply(experiment.model.load(experiment.model.load_tokenizer(cache), cache))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)

    def seconds(merge):
        given = copy.deepcopy(adapted)
        started = time.perf_counter()
        merged = merge(given)
        return time.perf_counter() - started, merged.state_dict()

    ways = experiment.tuning.merge, lambda model: model.merge_and_unload(safe_merge=True)
    taken, same = ([], []), True
    for _ in range(5):
        (ours, one), (own, other) = (seconds(way) for way in ways)
        same = same and all(one[name].equal(other[name]) for name in other)
        taken[0].append(ours)
        taken[1].append(own)
    ours, own = map(statistics.median, taken)
    print(f"merging: {ours:.2f} s, PEFT's own way {own:.2f} s, ratio {own / ours:.1f}; same weights to the bit: {same}")


if __name__ == "__main__":
    main()
