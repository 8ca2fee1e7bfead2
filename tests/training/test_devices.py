"""Two processes make the optimizer steps that one would."""

import subprocess
import sys

import pytest
from support.records import logged, newest_run

from instruct_lab import cli

SETTINGS = [
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.accumulate_grad_batches=2",
    "evaluation.baselines=false",
    "evaluation.during_examples=2",
]


def test_two_processes_train_as_one(lab, tiny):
    assert cli.main(["train", *tiny, *SETTINGS, "batching.batch_size=6"]) == 0
    one = newest_run(lab)
    command = [sys.executable, "-m", "instruct_lab.cli", "train", "--debug", *tiny, *SETTINGS]
    two_devices = ["trainer.strategy=ddp", "trainer.devices=2", "batching.batch_size=3"]
    done = subprocess.run([*command, *two_devices], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(lab.glob("runs/*/*"))) == 2  # the second process opened no record of its own
    two = newest_run(lab)
    assert two != one
    for name in ("train/loss", "train/gradient_norm", "train/target_tokens", "val/loss"):
        first, second = logged(one, name), logged(two, name)
        assert [step for step, _ in first] == [step for step, _ in second]
        assert [v for _, v in second] == pytest.approx([v for _, v in first], rel=1e-4), name
