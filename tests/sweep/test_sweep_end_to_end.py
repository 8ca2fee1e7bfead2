"""Real sweeps of tiny trainings: killed and continued, with failing trials, in one process and in several."""

import gc
import json
import os
import random
import signal
import subprocess
import time
import weakref

import pytest
from support.command_server import command
from support.exhaustive import exhaustive
from support.sweeps import sweep_runs

from instruct_lab import cli
from instruct_lab.experiment import check as check_module
from instruct_lab.training import run as run_module
from instruct_lab.training.module import TuningModule

FIRST = {
    "lora": ["tuning.r=2,4"],
    "full": ["tuning=full,lora"],
    "failing": ["optimizer.lr=1e30,1e-4", "trainer.gradient_clip_val=null"],
}
SHORT = ["trainer.max_steps=4", "evaluation.splits=[validation]", "metrics=perplexity", "evaluation.show_samples=0"]


def final_table(runs):
    """What must not depend on how often a sweep was interrupted."""
    return [
        (
            run["sweep"]["values"],
            run["status"],
            [{k: v for k, v in line.items() if "second" not in k} for line in run["lines"]],
        )
        for run in runs
    ]


def values_of(lab, runs):
    metrics = []
    for run in runs:
        summary = next(lab.glob(f"*/*/{run['id']}/summary.json"))
        metrics.append(json.loads(summary.read_text(encoding="utf-8"))["metrics"])
    return metrics


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_sweep_killed_twice_ends_as_an_undisturbed_one(lab, tiny):
    space = ["tuning.r=2,4", "optimizer.lr=1e-4,1e-3,1e-2"]
    arguments = [*tiny, *SHORT, *space, "callbacks.checkpoint.every_steps=1"]
    assert cli.main(["train", "-m", *arguments, "runs_path=undisturbed"]) == 0
    undisturbed = sweep_runs(lab, "undisturbed")
    expected, values = final_table(undisturbed), values_of(lab, undisturbed)
    assert len(expected) == 6
    chance = random.Random(7)
    arguments_now = ["train", "-m", *arguments]
    kills = 0
    while kills < 2:
        process = subprocess.Popen(command(*arguments_now), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted = ended(lab) + chance.randint(1, 2)
        while ended(lab) < wanted and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.4 * chance.random())
        assert process.poll() is None, "the sweep ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
        arguments_now = ["resume", "latest"]
    done = subprocess.run(command("resume", "latest"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 of 6 runs started; 6 finished" in done.stdout
    runs = sweep_runs(lab)
    assert len(runs) == 6
    assert final_table(runs) == expected
    assert values_of(lab, runs) == values


def ended(lab):
    """How many runs of the newest sweep have ended."""
    return sum(run["status"] == "finished" for run in sweep_runs(lab)) if list(lab.glob("runs/*/*/sweep.json")) else 0


@pytest.mark.slow
def test_three_failing_trials_are_reported_and_the_others_finish(lab, lab_code_allowed, tiny, capsys):
    (lab / "broken.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n' + "not json\n" * 50)
    (lab / "failing.py").write_text(
        "from instruct_lab.config import component\n"
        "from instruct_lab.callbacks import Callback\n"
        "import pytorch_lightning as pl\n\n\n"
        "class Fails(pl.Callback):\n"
        "    def on_train_batch_start(self, *arguments):\n"
        "        raise MemoryError('simulated: no memory is left')\n\n\n"
        "@component\n"
        "class OutOfMemory(Callback):\n"
        "    '''Fails.'''\n\n"
        "    def build(self, module, recorder):\n"
        "        return Fails()\n"
    )
    fine = [f"optimizer.lr={lr}" for lr in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)]
    failing = [
        "data.train.mine.path=broken.jsonl",
        "optimizer.lr=1e30",
        "callbacks.fails={_target_: failing.OutOfMemory}",
    ]
    points = json.dumps([*fine[:2], failing[0], *fine[2:3], failing[1], *fine[3:], failing[2]])
    capsys.readouterr()
    overrides = ["trainer.gradient_clip_val=null", f"sweep.points={points}"]
    assert cli.main(["train", "-m", *tiny, *SHORT, *overrides]) == 1
    runs = sweep_runs(lab)
    assert [run["status"] for run in runs].count("finished") == 5
    failed = {run["sweep"]["values"]["points"]: run["exception"] for run in runs if run["status"] == "failed"}
    assert set(failed) == set(failing)
    assert "Traceback" in failed[failing[0]]["traceback"]
    assert "loss is nan" in failed[failing[1]]["message"] or "loss is inf" in failed[failing[1]]["message"]
    assert failed[failing[2]]["type"] == "MemoryError"
    shown = capsys.readouterr()
    assert "5 finished, 3 failed" in shown.out
    assert "simulated: no memory is left" in shown.err


@pytest.mark.slow
def test_a_refused_point_is_recorded_as_failed_if_the_settings_say_so(lab, tiny):
    arguments = [*tiny, *SHORT, "tuning.r=4,0"]
    assert cli.main(["train", "-m", *arguments]) == 2
    assert not list(lab.glob("runs/*"))
    assert cli.main(["train", "-m", *arguments, "sweep.refused_points=fail"]) == 1
    finished, failed = sweep_runs(lab)[0], json.loads(next(lab.glob("runs/*/*-0001/manifest.json")).read_text())
    assert (finished["status"], failed["status"]) == ("finished", "failed")
    assert failed["exception"]["type"] == "ConfigError"


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["lora", "full", "pissa", "prompt_tuning", *map(exhaustive, ("dora", "ia3"))])
def test_a_trial_in_a_shared_process_equals_the_same_run_in_its_own_process(lab, tiny, tuning):
    arguments = [*tiny, *SHORT, f"tuning={tuning}", "metrics=[perplexity,text]"]
    assert cli.main(["train", "-m", *arguments, "seed=3,4"]) == 0
    trial = sweep_runs(lab)[1]  # it follows another in its process
    alone = [*arguments, "seed=4", "runs_path=alone"]
    subprocess.run(command("train", *alone), capture_output=True, check=True)
    (path,) = (lab / "alone").glob("*/*")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert final_table([{**trial, "lines": lines}]) == final_table([trial])
    assert json.loads((path / "summary.json").read_text())["metrics"] == values_of(lab, [trial])[0]


@pytest.mark.slow
@pytest.mark.parametrize("first", ["lora", "full", "failing"])
def test_a_trial_leaves_nothing_in_memory(lab, tiny, monkeypatch, first):
    alive, left = weakref.WeakSet(), []
    prepare, make = run_module.prepare, TuningModule.__init__

    def counted(run):
        left.append(len(alive))
        return prepare(run)

    def made(module, *arguments):
        make(module, *arguments)
        alive.add(module)

    monkeypatch.setattr(run_module, "prepare", counted)
    monkeypatch.setattr(TuningModule, "__init__", made)
    gc.disable()  # what was left would wait for its turn
    try:
        cli.main(["train", "-m", *tiny, *SHORT, *FIRST[first]])
    finally:
        gc.enable()
    assert len(left) >= 2
    assert set(left) == {0}


@pytest.mark.slow
def test_a_planned_trial_is_composed_once(lab, tiny, monkeypatch):
    composed = []
    compose = check_module.compose
    monkeypatch.setattr(
        check_module, "compose", lambda overrides, load: (composed.append(overrides), compose(overrides, load))[1]
    )
    assert cli.main(["train", "-m", *tiny, *SHORT, "tuning.r=2,4"]) == 0
    assert [sum(f"tuning.r={r}" in overrides for overrides in composed) for r in (2, 4)] == [1, 1]
    assert [run["status"] for run in sweep_runs(lab)] == ["finished", "finished"]


@pytest.mark.slow
def test_pruned_runs_keep_their_records(lab, tiny):
    validated = ["trainer.val_check_interval=1", "trainer.max_steps=6", "pruner=median", "sweep.pruner.first_trials=1"]
    assert cli.main(["train", "-m", *tiny, *SHORT, *validated, "optimizer.lr=1e-2,1e-6,3e-7"]) == 0
    runs = sweep_runs(lab)
    assert [run["status"] for run in runs] == ["finished", "pruned", "pruned"]
    for run in runs[1:]:
        assert 1 <= run["lines"][-1]["step"] < 6
        assert next(lab.glob(f"runs/*/{run['id']}/log.txt")).read_text().count("pruner stopped the run") == 1


@pytest.mark.slow
def test_a_sweep_is_resumed_only_with_the_config_it_started_with(lab, tiny, capsys):
    assert cli.main(["train", "-m", *tiny, *SHORT, "tuning.r=2,4"]) == 0
    option = lab / "conf" / "data" / "mine.yaml"
    option.write_text(option.read_text().replace("validation: 0.15", "validation: 0.2"))
    assert cli.main(["resume", "latest"]) == 2
    assert "has changed since the sweep started" in capsys.readouterr().err


@pytest.mark.slow
def test_watch_shows_the_table_of_a_sweep(lab, tiny, capsys):
    assert cli.main(["watch"]) == 2
    assert cli.main(["train", "-m", *tiny, *SHORT, "tuning.r=2,4", "sweep.metric=[val/loss,seconds]"]) == 0
    capsys.readouterr()
    assert cli.main(["watch"]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 runs started; 2 finished" in shown
    assert "best so far: r=" in shown


@pytest.mark.slow
def test_a_sweep_says_how_its_runs_are_compared(lab, tiny, capsys):
    assert cli.main(["train", "-m", *tiny, *SHORT, "tuning.r=2,4"]) == 0
    command = capsys.readouterr().out.rpartition("compare its runs: instruct-lab ")[2].split()
    assert cli.main(command) == 0
    assert ": r=" in capsys.readouterr().out.splitlines()[0]
