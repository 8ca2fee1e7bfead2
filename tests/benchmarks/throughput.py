"""Training steps beside those of other trainers: tokens a second, memory, and the loss after the last step.

Command: python tests/benchmarks/throughput.py [--quick] [--rounds N] [--steps N] [--workloads NAME ...]
             [--tunings NAME ...] [--sides NAME ...] [--before FOLDER] [--python PYTHON]

`--quick` (under five minutes on a quiet CPU) takes short texts, LoRA and one round. TRL comes with the extra
`throughput`; or name with `--python` the interpreter of another environment that has it. `--before` is a checkout of an
earlier commit, measured as one more side; with it, ours reads the same rows from files, as the earlier commit does,
because that divides the data into other splits.

All sides train the default model (downloaded at first use) in float32, from the same weights of trained parameters, on
the same examples for the same number of steps; each runs in a process of its own, in each round once, in an order that
is reversed from round to round. The first step of a process is not counted. Sides:

    ours          `instruct-lab train` as it comes
    trl           TRL's SFTTrainer as it comes (gradient checkpointing), but for bf16, which this CPU may not compute
    trl-kept      the same without checkpointing
    trl-best      the same with our batches of similar length in our order; its loss must be ours to rounding
    transformers  Hugging Face's Trainer as it comes
    lightning     Lightning with a plain module and padded batches in random order

TRL's `packing` and `padding_free` need flash attention, which computes on GPUs only, to keep texts apart.

Printed are medians over the rounds: real tokens for each second of processor time and of wall time, how many times ours
is as fast, positions that the model computes for each token, the share of the processor's arithmetic (matrix products
of these positions at the rate of bare products of the same shapes), the highest memory during the steps, the loss.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from same_rows import OPTION

HERE = Path(__file__).parent
SIDES = ("ours", "trl", "trl-kept", "trl-best", "transformers", "lightning")
WORKLOADS = {
    "short": ["data=interface_fr", "data.limit.train={examples}"],
    "medium": ["data=stdlib_functions", "data.limit.train={examples}", "batching.max_tokens=256"],
    "ragged": [
        "data=mixture",
        "data.max_rows.functions={half}",
        "+data.max_rows.french={half}",
        "batching.batch_size=4",
    ],
}
"""The data of each workload; the steps are one pass over them."""
TUNINGS = {"lora": 2e-3, "full": 2e-5}
RUN = [
    "tracker=none",
    "lr_scheduler=constant",
    "lr_scheduler.warmup_ratio=0",
    "optimizer.weight_decay=0",
    "trainer.val_check_interval=null",
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=0",
    "callbacks=none",
    "+callbacks.clock._target_=throughput_sides.Clock",
]


class Comparison:
    """One workload with one tuning method."""

    def __init__(self, folder, workload, tuning, options):
        self.folder, self.options = folder, options
        self.name = f"{workload}, {tuning}"
        examples = options.steps * (4 if workload == "ragged" else 8)
        self.overrides = [text.format(examples=examples, half=examples // 2) for text in WORKLOADS[workload]]
        self.overrides.append(f"tuning={tuning}")
        self.rate = TUNINGS[tuning]
        self.start([sys.executable, str(HERE / "throughput_sides.py"), "prepare", tuning, str(options.steps),
                    str(self.rate), *self.overrides])  # fmt: skip
        self.figures = {side: [] for side in options.sides}

    def start(self, command, package=HERE.parents[1]):
        """Run a process to its end; returns the figures that it wrote."""
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        environment = dict(os.environ, THROUGHPUT_FOLDER=str(self.folder), THROUGHPUT_RESULT=str(result))
        environment |= {"PYTHONPATH": f"{package}{os.pathsep}{HERE}", "OMP_NUM_THREADS": str(self.options.threads)}
        environment |= {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return json.loads(result.read_text()) if result.exists() else None

    def measure(self, side):
        """Train one side."""
        if side in ("ours", "before"):
            chosen = self.overrides
            if self.options.before is not None:
                chosen = [
                    f"data={OPTION}",
                    "preprocessing=none",
                    *(text for text in chosen if not text.lstrip("+").startswith("data")),
                ]
            run = [*chosen, *RUN, f"optimizer.lr={self.rate}", f"trainer.max_steps={self.options.steps}"]
            package = self.options.before if side == "before" else HERE.parents[1]
            if side == "ours":
                run += ["--allow", "throughput_sides.Clock"]
            figures = self.start([sys.executable, "-m", "instruct_lab.cli", "train", *run], package)
        else:
            python = self.options.python if side.startswith("trl") else sys.executable
            figures = self.start([python, str(HERE / "throughput_sides.py"), side])
        self.figures[side].append(figures)

    def report(self):
        """Print the table."""
        limit = self.start([sys.executable, str(HERE / "throughput_sides.py"), "ceiling"])
        print(f"\n{self.name}: {self.options.steps - 1} steps, {len(self.figures['ours'])} round(s), "
              f"matrix products {limit['rate'] / 1e9:.1f} GFLOP/s")  # fmt: skip
        names = "tokens|tokens/CPU s|tokens/s|ours is|positions|arithmetic|memory MB|of it|loss".split("|")
        widths = (8, 13, 10, 9, 11, 12, 11, 7, 9)
        print("side".ljust(14) + "".join(name.rjust(width) for name, width in zip(names, widths, strict=True)))
        ours = self.medians("ours")
        for side in self.options.sides:
            one = self.medians(side)
            targets = limit["targets"] * one["tokens"] / limit["tokens"]
            needed = one["positions"] * limit["per_position"] + targets * limit["per_target"]
            rates = sorted(figure["tokens"] / figure["cpu"] for figure in self.figures[side])
            cells = (
                f"{one['tokens']:.0f}",
                f"{one['rate']:.1f}",
                f"{one['wall_rate']:.1f}",
                f"{ours['rate'] / one['rate']:.2f}x",
                f"{one['positions'] / one['tokens']:.2f}",
                f"{needed / one['cpu'] / limit['rate']:.0%}",
                f"{one['peak_bytes'] / 1e6:.0f}",
                f"{ours['peak_bytes'] / one['peak_bytes']:.2f}",
                f"{one['loss']:.4f}",
            )
            row = side.ljust(14) + "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            print(f"{row}   {rates[0]:.1f} to {rates[-1]:.1f}", flush=True)

    def medians(self, side):
        """The median of each figure over the rounds."""
        found = self.figures[side]
        rates = {"rate": "cpu", "wall_rate": "wall"}
        medians = {key: statistics.median(figure[key] for figure in found) for key in found[0]}
        return medians | {
            key: statistics.median(figure["tokens"] / figure[seconds] for figure in found)
            for key, seconds in rates.items()
        }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--tunings", nargs="+", choices=TUNINGS, default=list(TUNINGS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="beside ours")
    parser.add_argument("--before", type=Path)
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.steps, options.workloads, options.tunings = 1, 4, ["short"], ["lora"]
    options.sides = list(dict.fromkeys(["ours", *options.sides]))  # the others are compared with it
    if options.before is not None:
        options.sides.append("before")
    print(f"{torch.backends.cpu.get_cpu_capability()} CPU, torch {torch.__version__}, {options.threads} thread(s)")
    with tempfile.TemporaryDirectory() as folder:
        for workload in options.workloads:
            for tuning in options.tunings:
                comparison = Comparison(Path(folder), workload, tuning, options)
                for number in range(options.rounds):
                    for side in options.sides[:: -1 if number % 2 else 1]:
                        comparison.measure(side)
                comparison.report()


if __name__ == "__main__":
    main()
