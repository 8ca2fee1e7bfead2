"""Kill a run at random moments, resume it, and compare what it recorded with an undisturbed run, byte by byte.

    python tests/benchmarks/kill_storm.py --kills 25 --seed 0
    python tests/benchmarks/kill_storm.py --kills 12 --seed 0 --pairs

The run has 60 steps with dropout, shuffling, accumulation, LoRA, and validations between two optimizer steps; with
`--pairs`, it trains on preference pairs by DPO. A kill
is a SIGKILL at a random time, in the middle of writing a training state, before or after a file is renamed, in the
middle of a line of `metrics.jsonl`, or while a folder of old weights is removed. Every third run is killed a second
time while it resumes. Compared are `metrics.jsonl` without times, `predictions.jsonl`, the results in `summary.json`,
and the SHA-256 of the best and the last weights.

Each run is a process forked from this one, which has imported the libraries, so that a run takes a few seconds.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")

import lightning_fabric.plugins.io.torch_io as torch_io
import torch

from instruct_lab import cli, files

sys.path.insert(0, str(Path(__file__).parent.parent))
import support.libraries  # noqa: F401  # loads them before the processes are forked

DATA = """# {name}: a local file
_target_: instruct_lab.data.DataSet
train: {{mine: {{_target_: instruct_lab.data.Files, path: {name}.jsonl}}}}
format: {{_target_: instruct_lab.data.{form}}}
split: {{_target_: instruct_lab.data.HashSplit, validation: 0.15, test: 0.15}}
"""
RUN = [
    *("data=mine", "model=tiny_random", "tracker=none", "tuning=lora", "tuning.dropout=0.2", "trainer=cpu"),
    *("trainer.max_epochs=-1", "trainer.accumulate_grad_batches=2"),
    *("trainer.val_check_interval=5", "batching.batch_size=4", "callbacks.checkpoint.every_steps=3"),
    *("evaluation.before=false", "evaluation.baselines=false", "evaluation.during_examples=2"),
    *("evaluation.max_examples=6", "generation.max_new_tokens=6", "optimizer.lr=0.01"),
]
PAIRS = ["data=pairs", "objective=dpo", "metrics=preference"]
"""Overrides with which the run trains on preference pairs."""
TIMED = ("seconds", "train/target_tokens_per_second")
KINDS = ("time", "time", "state", "replace", "line", "rmtree")
"""Kinds of kills, in turn."""


def main() -> int:
    """Run the storm, print one line for each kill, and return 1 if a resumed run differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of the run")
    parser.add_argument("--pairs", action="store_true", help="train on preference pairs by DPO")
    arguments = parser.parse_args()
    overrides = [*RUN, *(PAIRS if arguments.pairs else []), f"trainer.max_steps={arguments.steps}"]
    with tempfile.TemporaryDirectory() as folder:
        return storm(Path(folder), arguments.kills, arguments.seed, overrides)


def storm(lab: Path, num_kills: int, seed: int, overrides: list[str]) -> int:
    """Compare killed and resumed runs with an undisturbed one.

    Args:
        lab: an empty folder.
        num_kills: the number of runs that are killed.
        seed: seed of the moments.
        overrides: the config of the run.
    """
    train = ["train", *overrides]
    write_lab(lab)
    fork(lab, [*train, "trainer.max_steps=1"])  # fills the cache
    shutil.rmtree(lab / "runs")
    counts = lab / "counts.json"
    started = time.perf_counter()
    assert fork(lab, train, counting(counts)) == 0
    seconds = time.perf_counter() - started
    expected, calls = content(lab), json.loads(counts.read_text())
    print(f"undisturbed: {seconds:.1f} s, {len(expected['metrics'])} lines, calls {calls}", flush=True)
    draw, outcomes, num_different = random.Random(seed), collections.Counter[str](), 0
    for index in range(num_kills):
        kind, share, was_killed = KINDS[index % len(KINDS)], draw.random(), False
        moment = draw.uniform(0.1, seconds) if kind == "time" else draw.randrange(calls[kind])
        while not was_killed:
            shutil.rmtree(lab / "runs", ignore_errors=True)
            was_killed = fork(lab, train, killing(kind, moment, share)) == -signal.SIGKILL
            moment = moment if was_killed else 0.8 * moment  # a quicker run than the first ended before the moment
        if index % 3 == 2:
            fork(lab, resume_command(lab, train), killing("time", draw.uniform(0.1, seconds), 0.0))
        code = fork(lab, resume_command(lab, train)) if status(lab) != "finished" else 0
        found = content(lab)
        different = [name for name in expected if found[name] != expected[name]]
        num_different += bool(different) or code != 0
        outcomes[kind] += 1
        result = f"differs in {', '.join(different)}" if different else "equal"
        print(f"{index + 1:>3} {kind:<8} {moment:<8.5g} exit code {code}: {result}", flush=True)
    print(f"{num_kills - num_different} of {num_kills} equal; kills: {dict(outcomes)}")
    return int(bool(num_different))


def write_lab(lab: Path) -> None:
    """Write 130 rows and 130 preference pairs, and options that read them."""
    words = "red green blue small large old new warm cold quick slow bright dark quiet loud open closed".split()
    rows, pairs = [], []
    for index in range(130):
        first, second = words[index % len(words)], words[(index * 7 + index // len(words)) % len(words)]
        answer = " ".join([second, first, *words[: index % 4]])
        rows.append({"instruction": f"Turn around number {index}", "input": f"{first} {second}", "output": answer})
        pairs.append({"prompt": f"Turn around {index}: {first} {second}", "chosen": answer, "rejected": f"no {first}"})
    (lab / "conf" / "data").mkdir(parents=True)
    for name, form, content in (("mine", "Alpaca", rows), ("pairs", "Preference", pairs)):
        (lab / "conf" / "data" / f"{name}.yaml").write_text(DATA.format(name=name, form=form), encoding="utf-8")
        lines = "".join(json.dumps(row) + "\n" for row in content)
        (lab / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def fork(lab: Path, command: list[str], prepare: Any = None) -> int:
    """Run a command in a new process, and return its exit code, negative for a signal.

    Args:
        lab: the folder in which the command runs.
        command: arguments of `instruct-lab`.
        prepare: function that is called in the process before the command.
    """
    process = os.fork()
    if process == 0:
        os.chdir(lab)
        output = os.open(lab / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["INSTRUCT_LAB_CACHE"] = str(lab / "cache")
        finish = prepare() if prepare is not None else None
        code = cli.main(command)
        if finish is not None:
            finish()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def resume_command(lab: Path, train: list[str]) -> list[str]:
    """Return the command that goes on: `resume`, or `train` if the run was killed before it had a record."""
    return ["resume", "latest"] if list(lab.glob("runs/*/*/manifest.json")) else train


def status(lab: Path) -> str | None:
    """Return the status of the run, or `None` without a record."""
    found = list(lab.glob("runs/*/*/manifest.json"))
    return json.loads(found[0].read_text())["status"] if found else None


def content(lab: Path) -> dict[str, Any]:
    """Return what a run recorded, without times and paths."""
    (record,) = (path.parent for path in lab.glob("runs/*/*/manifest.json"))
    lines = [json.loads(line) for line in (record / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    weights = sorted((record / "checkpoints").glob("*/*.safetensors"))
    return {
        "metrics": [json.dumps({name: v for name, v in line.items() if name not in TIMED}) for line in lines],
        "predictions": (record / "predictions.jsonl").read_bytes(),
        "results": json.loads((record / "summary.json").read_text(encoding="utf-8"))["metrics"],
        "weights": {
            f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in weights
        },
    }


# ---- moments


def hook(before: Any, after: Any = None) -> None:
    """Call functions with the kind of an operation before and after it, and write part of it if `before` asks to.

    Args:
        before: function of the operation's kind and of a function that performs half of it.
        after: function of the operation's kind.
    """

    def wrap(module: Any, name: str, kind: str, half: Any = None) -> None:
        original = getattr(module, name)

        def operation(*arguments: Any, **options: Any) -> Any:
            before(kind, None if half is None else lambda: half(original, *arguments, **options))
            result = original(*arguments, **options)
            if after is not None:
                after(kind)
            return result

        setattr(module, name, operation)

    wrap(os, "replace", "replace")
    wrap(shutil, "rmtree", "rmtree", lambda _, path, *more, **options: remove_one_file(Path(path)))
    wrap(torch_io, "_atomic_save", "state", lambda save, content, path: write_half(content, Path(path)))
    wrap(files, "append_text", "line", lambda append, path, text: append(path, text[: len(text) // 2]))


def remove_one_file(folder: Path) -> None:
    """Remove one file of a folder, as a removal that was killed."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file())[:1]:
        file.unlink()


def write_half(content: Any, path: Path) -> None:
    """Write the first half of a training state."""
    whole = path.with_name("whole")
    torch.save(content, whole)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()


def counting(path: Path) -> Any:
    """Return a function that counts the operations of each kind; the counts are written to a file at the end."""

    def prepare() -> Any:
        counts: collections.Counter[str] = collections.Counter()
        hook(lambda kind, half: counts.update([kind]))
        return lambda: path.write_text(json.dumps(counts), encoding="utf-8")

    return prepare


def killing(kind: str, moment: float, share: float) -> Any:
    """Return a function that kills the process at a moment.

    Args:
        kind: `time`, or the kind of an operation.
        moment: seconds after the start, or the index of the operation.
        share: below 1/3: kill before the operation; below 2/3: after half of it, if possible; otherwise after it.
    """

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def prepare() -> None:
        if kind == "time":
            timer = threading.Timer(moment, kill)
            timer.daemon = True
            timer.start()
            return
        counts: collections.Counter[str] = collections.Counter()

        def before(operation: str, half: Any) -> None:
            counts[operation] += 1
            if operation == kind and counts[operation] == moment + 1 and share < 2 / 3:
                if half is not None and share >= 1 / 3:
                    half()
                kill()

        def after(operation: str) -> None:
            if operation == kind and counts[operation] == moment + 1:
                kill()

        hook(before, after)

    return prepare


if __name__ == "__main__":
    sys.exit(main())
