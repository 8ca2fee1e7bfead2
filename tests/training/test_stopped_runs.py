"""A signal stops a run at the end of an optimizer step, whose state is written, so that resuming loses nothing."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.command_server import command
from support.exhaustive import exhaustive
from support.hanging import wait_until
from support.records import logged, newest_run

from instruct_lab import cli
from instruct_lab.records import ReadOnlyRecord, RunRecord
from instruct_lab.tracker.recorder import Recorder
from instruct_lab.training import ending
from instruct_lab.training.ending import Interrupted, StopRequest, raise_on_signals, record_ending

NAMES = ("train/loss", "train/lr", "train/gradient_norm", "train/target_tokens", "val/loss")
QUICK = [
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=0",
    "metrics=perplexity",
    "tuning.dropout=0.2",
    "batching.batch_size=12",
    "callbacks.checkpoint.every_steps=1000",
    "trainer.max_epochs=3",
]
"""Three epochs of four steps, without a state that is written before the end."""

SENDER = """
import os, pathlib, signal
import pytorch_lightning as pl
from instruct_lab.config import component
from instruct_lab.callbacks import Callback

@component
class SendOnce(Callback):
    '''Sends a signal to the process before a batch or a validation after an optimizer step, once.'''
    step: int
    number: int
    in_validation: bool = False

    def build(self, module, recorder):
        return _Send(self)

class _Send(pl.Callback):
    def __init__(self, chosen):
        self.chosen = chosen

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.send(trainer, not self.chosen.in_validation)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.send(trainer, self.chosen.in_validation)

    def send(self, trainer, is_here):
        flag = pathlib.Path("sent")
        if is_here and trainer.global_step >= self.chosen.step and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), self.chosen.number)
"""

UNDISTURBED = {}
"""What runs without a signal log, by override; the cases with each of them share it."""
CASES = {
    "in mid-epoch": (1, "trainer.val_check_interval=1.0", signal.SIGTERM, False),
    "in the first step": (0, "trainer.val_check_interval=1.0", signal.SIGHUP, False),
    "in the last step of an epoch": (3, "trainer.val_check_interval=1.0", signal.SIGINT, False),
    "in a step that a validation follows": (1, "trainer.val_check_interval=2", signal.SIGINT, False),
    "with a validation after each step": (5, "trainer.val_check_interval=1", signal.SIGTERM, False),
    "in a validation": (2, "trainer.val_check_interval=2", signal.SIGTERM, True),
    "in a validation at the end of an epoch": (4, "trainer.val_check_interval=1.0", signal.SIGINT, True),
    "in the last step": (11, "trainer.val_check_interval=1.0", signal.SIGTERM, False),
    "in the last step of max_steps": (5, "+trainer.max_steps=6", signal.SIGTERM, False),
    "within an accumulation window": (1, "trainer.accumulate_grad_batches=2", signal.SIGTERM, False),
}
CHOSEN = (
    *("in the first step", "in the last step of an epoch", "in a step that a validation follows", "in a validation"),
    *("in the last step", "within an accumulation window"),
)
"""Cases that differ in kind; the others are tried by hand."""


@pytest.mark.slow
@pytest.mark.parametrize("case", [name if name in CHOSEN else exhaustive(name) for name in CASES])
def test_resuming_after_a_signal_loses_no_step(lab, lab_code_allowed, tiny, capfd, case):
    step, override, number, in_validation = CASES[case]
    if override not in UNDISTURBED:
        assert cli.main(["train", *tiny, *QUICK, override]) == 0
        UNDISTURBED[override] = {name: logged(newest_run(lab), name) for name in NAMES}
        shutil.rmtree(lab / "runs")
    module = re.sub(r"\W", "_", f"sender_{step}_{override}_{in_validation}")
    (lab / f"{module}.py").write_text(SENDER)
    target = f"_target_:{module}.SendOnce,step:{step},number:{int(number)},in_validation:{in_validation}"
    capfd.readouterr()
    assert cli.main(["train", *tiny, *QUICK, override, f"+callbacks.send={{{target}}}"]) == 128 + number
    assert "stops after this optimizer step" in capfd.readouterr().err
    record = newest_run(lab)
    assert json.loads((record / "manifest.json").read_text())["status"] == "interrupted"
    reached = logged(record, "train/loss")[-1][0]
    assert reached <= step + 1
    assert cli.main(["resume", "latest"]) == 0
    assert f"resuming after step {reached}\n" in capfd.readouterr().err
    assert {name: logged(record, name) for name in NAMES} == UNDISTURBED[override]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, exhaustive(0.05), 1.2])
def test_two_signals_leave_an_interrupted_run(lab, tiny, delay):
    arguments = command("train", *tiny, *QUICK, "trainer.max_epochs=2000")
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: process.poll() is not None or list(lab.glob("runs/*/*/metrics.jsonl")))
    process.send_signal(signal.SIGINT)
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode in (130, -signal.SIGTERM), errors.decode()[-2000:]  # the second may meet its exit
    assert json.loads((newest_run(lab) / "manifest.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["write_config", "write_manifest", "write_overrides"])
def test_a_signal_while_the_record_is_created_leaves_an_interrupted_run(lab, tiny, monkeypatch, moment):
    original = getattr(RunRecord, moment)

    def create(*arguments, **facts):
        made = original(*arguments, **facts)
        signal.raise_signal(signal.SIGTERM)
        return made

    monkeypatch.setattr(RunRecord, moment, create)
    assert cli.main(["train", *tiny, *QUICK]) == 143
    assert RunRecord.open(newest_run(lab)).manifest.status == "interrupted"


@pytest.mark.slow
def test_a_signal_after_the_work_is_done_leaves_a_finished_run(lab, tiny, monkeypatch):
    original = Recorder.finish

    def finish(self, exit_code):
        signal.raise_signal(signal.SIGINT)
        original(self, exit_code)

    monkeypatch.setattr(Recorder, "finish", finish)
    assert cli.main(["train", *tiny, *QUICK]) == 0
    assert RunRecord.open(newest_run(lab)).manifest.status == "finished"


# ---- the request


def test_a_signal_stops_at_once_outside_training():
    with pytest.raises(Interrupted) as interrupted, raise_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert interrupted.value.exit_code == 143


def test_a_held_signal_waits():
    with raise_on_signals() as request:
        request.hold()
        signal.raise_signal(signal.SIGHUP)
        request.release()
        with pytest.raises(Interrupted, match="SIGHUP"):
            request.raise_if_waiting()


def test_the_second_signal_stops_at_once_unless_it_repeats_the_first(monkeypatch, capfd):
    times = iter([10.0, 10.05, 20.0])
    monkeypatch.setattr(ending.time, "monotonic", lambda: next(times))
    request = StopRequest()
    request.waits_for_step = True
    request.handle(signal.SIGINT, None)
    request.handle(signal.SIGTERM, None)
    with pytest.raises(Interrupted) as interrupted:
        request.handle(signal.SIGTERM, None)
    assert interrupted.value.exit_code == 130


def test_after_a_training_that_raised_a_signal_stops_at_once():
    class Trackers:
        record = ReadOnlyRecord(Path())

        def finish(self, exit_code):
            signal.raise_signal(signal.SIGTERM)

    def fail(request):
        with record_ending(Trackers(), request):
            request.waits_for_step = True  # as Lightning leaves it if a step raises
            raise ValueError("a step failed")

    with raise_on_signals() as request, pytest.raises(Interrupted):
        fail(request)


def test_handlers_are_restored_and_an_ignored_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
