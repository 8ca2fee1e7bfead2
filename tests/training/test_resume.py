"""A killed and resumed run logs the same values, to the last digit, as an undisturbed one."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from support.command_server import command
from support.exhaustive import exhaustive
from support.hanging import wait_until
from support.records import logged, newest_run

from instruct_lab import cli

LONG = [
    "tuning.dropout=0.2",
    "trainer.max_epochs=6",
    "trainer.accumulate_grad_batches=2",
    "trainer.accelerator=cpu",
    "batching.batch_size=3",
    "callbacks.checkpoint.every_steps=3",
    "evaluation.before=false",
    "evaluation.baselines=false",
    "evaluation.during_examples=2",
]


def kill_after(arguments, folder, lines):
    """Start a run and SIGKILL it once its log has so many lines."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        logs = list(folder.glob("runs/*/*/metrics.jsonl"))
        if logs and logs[0].read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.002)
    assert process.poll() is None, process.stderr.read().decode()[-2000:]
    process.send_signal(signal.SIGKILL)
    process.wait()


SAME = ("train/loss", "train/lr", "train/gradient_norm", "train/target_tokens", "val/loss", "val/chrf")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_last_digit(lab, tiny, capfd):
    assert cli.main(["train", *tiny, *LONG]) == 0
    undisturbed = newest_run(lab)
    expected = {name: logged(undisturbed, name) for name in SAME}
    table = json.loads((undisturbed / "summary.json").read_text())["metrics"]
    assert len(expected["train/loss"]) >= 40
    assert len(expected["val/loss"]) >= 6
    shutil.rmtree(lab / "runs")

    kill_after(command("train", *tiny, *LONG), lab, lines=len(expected["train/loss"]) // 4)
    record = newest_run(lab)
    assert json.loads((record / "manifest.json").read_text())["status"] == "running"
    reached = len(logged(record, "train/loss"))
    assert 0 < reached < len(expected["train/loss"])
    kill_after(command("resume", "latest"), lab, lines=reached + 6)  # and killed once more

    assert cli.main(["resume", "latest"]) == 0
    assert {name: logged(record, name) for name in SAME} == expected
    summary = json.loads((record / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["metrics"] == table
    assert cli.main(["resume", "latest"]) == 2  # it is finished


@pytest.mark.slow
def test_a_run_is_not_resumed_with_changed_data(lab, tiny, capsys):
    stop = ["evaluation.before=false", "evaluation.baselines=false", "optimizer.lr=1.0e+30"]
    assert cli.main(["train", *tiny, *stop, "trainer.gradient_clip_val=null"]) == 1  # the loss becomes NaN
    rows = (lab / "rows.jsonl").read_text().splitlines()
    (lab / "rows.jsonl").write_text("\n".join(rows[:-5]) + "\n")
    assert cli.main(["resume", "latest"]) == 2
    message = capsys.readouterr().err
    assert "input rows.jsonl" in message
    assert "--force" in message


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_has_that_status(lab, tiny, number):
    arguments = command("train", *tiny, *LONG, "trainer.max_epochs=200")
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(os.environ))
    wait_until(lambda: process.poll() is not None or list(lab.glob("runs/*/*/metrics.jsonl")))
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 128 + number, errors.decode()[-2000:]
    assert json.loads((newest_run(lab) / "manifest.json").read_text())["status"] == "interrupted"


STOPPER = """
import pathlib, signal
import pytorch_lightning as pl
from instruct_lab.config import component
from instruct_lab.callbacks import Callback
from instruct_lab.training.ending import Interrupted

@component
class StopOnce(Callback):
    '''Interrupts the run before the batch after an optimizer step, once.'''
    step: int

    def build(self, module, recorder):
        return _Stop(self.step)

class _Stop(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        flag = pathlib.Path("stopped")
        if trainer.global_step >= self.step and not flag.exists():
            flag.touch()
            raise Interrupted(signal.SIGTERM)
"""


def epochs(record):
    """The epoch of each optimizer step."""
    lines = [json.loads(line) for line in (record / "metrics.jsonl").read_text().splitlines()]
    return [line["epoch"] for line in lines if "train/loss" in line]


BOUNDS = {
    "epochs": ["trainer.max_epochs=3"],
    "steps": ["trainer.max_epochs=-1", "+trainer.max_steps=10"],
    "both": ["trainer.max_epochs=3", "+trainer.max_steps=10"],
}
STOPPED = [(3, 0.5, "epochs"), (4, 3, "steps"), (4, 0.5, "epochs"), (8, 0.5, "both")]
UNDISTURBED = {}
"""What runs that nothing stops log, by bound and interval; the tests of each of them share it."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stop", "interval", "bound"),
    [
        one if one in STOPPED else exhaustive(*one)
        for one in itertools.product(
            (3, 4, 8),  # in mid-epoch, and at the ends of the first and the second epoch of four steps
            (0.5, 3),  # with and without a validation at the end of an epoch
            BOUNDS,
        )
    ],
)
def test_a_run_stopped_anywhere_resumes_exactly(lab, lab_code_allowed, tiny, bound, stop, interval):
    quick = [
        "evaluation.before=false",
        "evaluation.baselines=false",
        "evaluation.during_examples=0",
        "tuning.dropout=0.2",
    ]
    every = ["callbacks.checkpoint.every_steps=1", "batching.batch_size=12", "metrics=perplexity", *BOUNDS[bound]]
    every.append(f"trainer.val_check_interval={interval}")
    if (bound, interval) not in UNDISTURBED:
        assert cli.main(["train", *tiny, *quick, *every]) == 0
        undisturbed = newest_run(lab)
        UNDISTURBED[bound, interval] = {name: logged(undisturbed, name) for name in SAME[:-1]}, epochs(undisturbed)
        shutil.rmtree(lab / "runs")
    expected, undisturbed_epochs = UNDISTURBED[bound, interval]
    assert [step for step, _ in expected["train/loss"]] == list(range(1, 11 if bound != "epochs" else 13))
    assert undisturbed_epochs[4:8] == [1] * 4
    (lab / f"stopper_{bound}_{stop}_{int(interval)}.py").write_text(STOPPER)
    stopper = f"+callbacks.stop={{_target_:stopper_{bound}_{stop}_{int(interval)}.StopOnce,step:{stop}}}"
    assert cli.main(["train", *tiny, *quick, *every, stopper]) == 143
    assert cli.main(["resume", "latest"]) == 0
    assert {name: logged(newest_run(lab), name) for name in SAME[:-1]} == expected
    assert epochs(newest_run(lab)) == undisturbed_epochs


@pytest.mark.slow
def test_a_run_that_ended_after_its_last_step_is_evaluated_when_resumed(lab, tiny):
    assert cli.main(["train", *tiny, "callbacks.checkpoint.every_steps=1", "trainer.max_epochs=2"]) == 0
    record = newest_run(lab)
    losses = logged(record, "train/loss")
    table = json.loads((record / "summary.json").read_text())["metrics"]
    manifest = json.loads((record / "manifest.json").read_text())
    (record / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    (record / "summary.json").unlink()  # as if it had been killed while the tuned model was measured
    assert cli.main(["resume", "latest"]) == 0
    assert logged(record, "train/loss") == losses
    assert json.loads((record / "summary.json").read_text())["metrics"] == table


def test_a_process_of_another_launcher_gets_a_hint(lab, tiny, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.delenv("INSTRUCT_LAB_RUN_PATH", raising=False)
    assert cli.main(["train", *tiny]) == 2
    assert "LOCAL_RANK" in capsys.readouterr().err


KILLER = """
import pathlib
import pytorch_lightning as pl
from instruct_lab.config import component
from instruct_lab.callbacks import Callback

class Killed(BaseException):
    '''Ends the process as SIGKILL would, without any clean-up that tests would have to wait for.'''

@component
class KillOnce(Callback):
    '''Ends the run at the start of a batch, once.'''
    batch: int

    def build(self, module, recorder):
        return _Kill(self.batch)

class _Kill(pl.Callback):
    def __init__(self, batch):
        self.batch, self.seen = batch, 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen += 1
        flag = pathlib.Path("killed")
        if self.seen > self.batch and not flag.exists():
            flag.touch()
            raise Killed
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accumulation", "interval", "batch"),
    [
        *((2, 3, 3), (2, 1, 5), (3, 0.25, 4)),
        *(exhaustive(*one) for one in [(2, 3, 4), (3, 2, 2), (4, 2, 6), (4, 1, 7)]),
    ],
)
def test_a_validation_within_an_accumulation_window_is_logged_once(
    lab, lab_code_allowed, tiny, accumulation, interval, batch
):
    often = [
        "evaluation.before=false",
        "evaluation.baselines=false",
        "evaluation.during_examples=0",
        "metrics=perplexity",
        "batching.batch_size=6",
        "callbacks.checkpoint.every_steps=1",
        "trainer.max_epochs=2",
        f"trainer.accumulate_grad_batches={accumulation}",
        f"trainer.val_check_interval={interval}",
    ]
    assert cli.main(["train", *tiny, *often]) == 0
    expected = {name: logged(newest_run(lab), name) for name in SAME[:-1]}
    shutil.rmtree(lab / "runs")
    module = f"killer_{accumulation}_{str(interval).replace('.', '_')}_{batch}"
    (lab / f"{module}.py").write_text(KILLER)
    killer = f"+callbacks.kill={{_target_:{module}.KillOnce,batch:{batch}}}"
    assert cli.main(["train", *tiny, *often, killer]) != 0
    assert cli.main(["resume", "latest"]) == 0
    assert {name: logged(newest_run(lab), name) for name in SAME[:-1]} == expected


@pytest.mark.slow
def test_a_run_resumes_from_the_state_before_a_damaged_one(lab, tiny, capsys):
    often = ["callbacks.checkpoint.every_steps=1", "trainer.max_epochs=2", "evaluation.before=false"]
    assert cli.main(["train", *tiny, *often]) == 0
    record = newest_run(lab)
    expected = {name: logged(record, name) for name in SAME}
    manifest = json.loads((record / "manifest.json").read_text())
    (record / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    last = record / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    assert cli.main(["resume", "latest"]) == 0
    message = capsys.readouterr().err
    assert "warning: The training state last.ckpt is damaged" in message
    assert f"resuming after step {expected['train/loss'][-1][0] - 1}" in message
    assert {name: logged(record, name) for name in SAME} == expected
    assert "last.ckpt is damaged" in (record / "log.txt").read_text()
