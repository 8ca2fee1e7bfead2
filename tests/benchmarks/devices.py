"""Train 30 steps in one process and in two that speak through gloo, and print how far the runs are apart.

Compared are every logged value of every step (loss, gradient norm, validation), the last weights, and the results and
answers after training; also for a run on one device that stops at step 15 and goes on with two, and the reverse.

    python tests/benchmarks/devices.py [CASE ...]
"""

import json
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
                    largest, where = distance(one, other)
                    print(f"{name}, {strategy}, {label}: {largest:.2g} ({where})", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
