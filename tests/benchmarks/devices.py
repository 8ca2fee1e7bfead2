"""Train 30 steps in one process and in two that speak through gloo, and print how far the runs are apart.

Compared are every logged value of every step (loss, gradient norm, validation), the last weights, and the results and
answers after training; also for a run on one device that stops at step 15 and goes on with two, and the reverse.

A difference of a logged value is relative to the largest size of this value over the run, because some values, such as
the margins of DPO, begin at zero, where only rounding is left. The share of pairs whose margin is positive is left out:
at such a step, it is decided by rounding, and the margins themselves are compared.

    python tests/benchmarks/devices.py [CASE ...]
"""

import dataclasses
import json
import math
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "invariance")]

from support.lab import data_set, instruction_rows, write_data, write_lab
from test_trajectories import DECODER, SHORT
from trajectory import Continued, Trajectory, TwoRanks, Variant, distance

STEPS, PAUSE = 30, 15
FULL, LORA = ("tuning=full",), ("tuning=lora",)
PREFERENCE = ("data=pairs", "metrics=preference", "evaluation.during_examples=0")
CASES = {
    "full": (DECODER + FULL, 1),
    "LoRA": (DECODER + LORA, 1),
    "accumulation": (DECODER + FULL, 2),
    "packed": ((*DECODER, *FULL, "batching=packed"), 1),
    "DPO": ((*DECODER, *LORA, *PREFERENCE, "objective=dpo"), 1),
    "ORPO": ((*DECODER, *FULL, *PREFERENCE, "objective=orpo"), 1),
}
BOUND = ("trainer.max_epochs=-1", "lr_scheduler=constant", "lr_scheduler.warmup_ratio=0.0")
EVERY_STEP = "callbacks.checkpoint.every_steps=1"
STRATEGIES = ("ddp", "fsdp")


def write_pairs(folder: Path) -> None:
    """Write a data set of preference pairs."""
    rows = [
        {"prompt": row["instruction"], "chosen": row["output"], "rejected": f"not {row['input']}"}
        for row in instruction_rows(60)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_data(folder, "pairs", data_set("pairs.jsonl", row_format="Preference", validation=0.15, test=0.15))


def run(variant: Variant, folder: Path, common: tuple[str, ...]) -> Trajectory:
    """Run a variant in a new folder that has both data sets."""
    folder.mkdir()
    write_lab(folder)
    write_pairs(folder)
    variant.run(folder, [*SHORT, *BOUND, *common, *variant.overrides], None)
    [record] = [path.parent for path in folder.glob("runs/*/*/manifest.json")]
    return Trajectory.read(record)


def largest_difference(first: Trajectory, second: Trajectory) -> tuple[float, str]:
    """Return the largest relative difference of two trajectories and its name; see the top of this file."""
    others = [dataclasses.replace(one, logged={}) for one in (first, second)]
    found = [distance(*others)]
    if first.logged.keys() != second.logged.keys():
        return math.inf, f"logged: {sorted(first.logged.keys() ^ second.logged.keys())}"
    for name, values in first.logged.items():
        if name.endswith("accuracy"):
            continue
        pairs = list(zip(values, second.logged[name], strict=True))
        size = max((abs(value) for both in pairs for _, value in both if not math.isnan(value)), default=0.0)
        apart = max(_difference(*both) for both in pairs)
        found.append((apart / size if size else 0.0, f"logged: {name}"))
    return max(found)


def _difference(first: tuple[int, float], second: tuple[int, float]) -> float:
    """Return how far two logged values are apart, infinity if they are of different steps or one of them is NaN."""
    difference = abs(first[1] - second[1])
    if math.isnan(first[1]) and math.isnan(second[1]):
        difference = 0.0
    return difference if first[0] == second[0] and not math.isnan(difference) else math.inf


def main(names: list[str]) -> None:
    """Run the cases of these names, or all."""
    with tempfile.TemporaryDirectory() as parent:
        for name in names or CASES:
            common, accumulate = CASES[name]
            whole = f"trainer.max_steps={STEPS}"
            eight, four = "batching.batch_size=8", f"batching.batch_size={4 // accumulate}"
            parts = f"trainer.accumulate_grad_batches={accumulate}"
            one = run(Variant((eight, whole)), Path(parent) / name, common)
            for strategy in STRATEGIES:
                two = ("trainer.devices=2", f"trainer.strategy={strategy}")
                single = ("trainer.devices=1", "trainer.strategy=auto")
                alone = f"batching.batch_size={8 // accumulate}"
                first = (f"trainer.max_steps={PAUSE}", EVERY_STEP, parts)
                variants = {
                    "two processes": TwoRanks((four, whole, parts), strategy),
                    "two, then one": Continued((four, *first, *two), then=(whole, *single)),
                    "one, then two": Continued((alone, *first, *single), then=(whole, *two)),
                }
                for label, variant in variants.items():
                    other = run(variant, Path(parent) / f"{name}, {strategy}, {label}", common)
                    largest, where = largest_difference(one, other)
                    print(f"{name}, {strategy}, {label}: {largest:.2g} ({where})", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
