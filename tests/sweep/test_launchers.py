"""Trials in other processes: workers of this machine, a local Ray cluster, submitit's local executor."""

import os
import signal
import subprocess
import time

import pytest
from support.command_server import command
from support.exhaustive import exhaustive
from support.sweeps import sweep_runs
from test_sweep_end_to_end import SHORT, ended, final_table

from instruct_lab import cli

pytestmark = pytest.mark.launchers


EXPECTED = []
"""The results of the same sweep in this process, which the tests share."""


@pytest.fixture
def expected(lab, tiny):
    """The results of the same sweep in this process."""
    if not EXPECTED:
        assert cli.main(["train", "-m", *tiny, *SHORT, "tuning.r=2,4", "runs_path=expected"]) == 0
        EXPECTED.extend(final_table(sweep_runs(lab, "expected")))
    return EXPECTED


def settings(launcher):
    return {
        "processes": ["hydra/launcher=processes", "hydra.launcher.num_processes=2"],
        "ray": ["hydra/launcher=ray", "hydra.launcher.num_trials=1"],  # a worker takes long to import the libraries
        "ray, two at a time": ["hydra/launcher=ray", "hydra.launcher.num_trials=2"],
        "slurm": ["hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.cpus=1"],
    }[launcher]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["processes", "ray", exhaustive("ray, two at a time"), "slurm"])
def test_two_trials_give_the_same_as_in_one_process(lab, tiny, expected, launcher):
    if launcher != "processes":
        pytest.importorskip("submitit" if launcher == "slurm" else "ray")
    arguments = [*tiny, *SHORT, "tuning.r=2,4", *settings(launcher)]
    done = subprocess.run(command("train", "-m", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = sweep_runs(lab)
    assert [run["status"] for run in runs] == ["finished", "finished"]
    for mine, wanted in zip(final_table(runs), expected, strict=True):
        assert mine[0] == wanted[0]
        for line, wanted_line in zip(mine[2], wanted[2], strict=True):  # threads change the last digits
            assert line["step"] == wanted_line["step"]
            if "train/loss" in line:
                assert line["train/loss"] == pytest.approx(wanted_line["train/loss"], rel=1e-5)


@pytest.mark.slow
def test_only_the_trial_of_a_worker_that_dies_fails(lab, lab_code_allowed, tiny):
    (lab / "dying.py").write_text(
        "import os, signal\n"
        "from instruct_lab.config import component\n"
        "from instruct_lab.callbacks import Callback\n"
        "import pytorch_lightning as pl\n\n\n"
        "class Dies(pl.Callback):\n"
        "    def on_train_start(self, *arguments):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n\n\n"
        "@component\n"
        "class Killed(Callback):\n"
        "    '''Dies.'''\n\n"
        "    def build(self, module, recorder):\n"
        "        return Dies()\n"
    )
    points = '["callbacks.dies={_target_: dying.Killed}", "tuning.r=2", "tuning.r=4"]'
    one = ["hydra/launcher=processes", "hydra.launcher.num_processes=1"]
    arguments = [*tiny, *SHORT, f"sweep.points={points}", *one]
    done = subprocess.run(command("train", "-m", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    runs = {run["id"][-4:]: run for run in sweep_runs(lab)}
    dead = next(lab.glob("runs/*/*-0000/manifest.json")).read_text()
    assert "signal 9" in dead
    assert '"failed"' in dead
    assert [runs[number]["status"] for number in ("0001", "0002")] == ["finished", "finished"]


@pytest.mark.slow
def test_the_workers_of_a_killed_sweep_end_and_it_can_be_resumed(lab, tiny):
    arguments = [*tiny, *SHORT, "tuning.r=2,4,8", *settings("processes"), "callbacks.checkpoint.every_steps=1"]
    train = command("train", "-m", *arguments)
    process = subprocess.Popen(train, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while ended(lab) < 1 and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command("resume", "latest"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = sweep_runs(lab)
    assert [run["status"] for run in runs] == ["finished"] * 3
