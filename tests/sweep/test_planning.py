"""Which sweeps are refused before anything runs, and with which reason."""

import json
import types

import pytest
from support.lab import data_set, mixture, write_data

from instruct_lab import cli
from instruct_lab.config import ExternalClass
from instruct_lab.config.compose import compose
from instruct_lab.errors import ConfigError
from instruct_lab.experiment.check import check
from instruct_lab.sweep.metrics import result_values, training_values
from instruct_lab.sweep.plan import plan
from instruct_lab.sweep.trial import _needs_own_process


def problems(capsys, *overrides):
    assert cli.main(["check", "-m", "--json", *overrides]) == 2
    return {problem["key"]: problem["reason"] for problem in json.loads(capsys.readouterr().out)["errors"]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "key", "reason"),
    [
        ([], "sweep", "nothing varies"),
        (["tuning.r=4,8", "hydra/sweeper=tpe"], "sweep.num_points", "say how many"),
        (["optimizer.lr=interval(1e-5,1e-3)"], "sweep.space", "grid"),
        (["tuning.rank=4,8"], "tuning.rank", "no field rank"),
        (["tuning=lora,lorra"], "tuning", "no such option"),
        (["tuning.r=4,8", "sweep.metric=val/lost"], "sweep.metric", "no run measures"),
        (["tuning.r=4,8", "sweep.metric=val/loss", "data.split.validation=0"], "sweep.metric", "no validation split"),
        (["tuning.r=4,8", "sweep.metric=val/loss", "trainer.limit_val_batches=0"], "sweep.metric", "no run measures"),
        (["tuning.r=4,8", "sweep.metric=[val/loss,test/chrf]", "data.split.test=0"], "sweep.metric", "no test split"),
        (
            ["tuning.r=4,8", "sweep.metric=test/chrf", "evaluation.splits=[validation]"],
            "sweep.metric",
            "no run measures",
        ),
        (["tuning.r=4,8", "sweep.metric=test/chrf", "metrics=perplexity"], "sweep.metric", "no run measures"),
        (["tuning.r=4,8", "sweep.metric=val/mine/loss"], "sweep.metric", "no run measures"),
        (["tuning=lora,few_shot", "sweep.metric=val/loss"], "sweep.metric", "tuning=few_shot"),
        (
            ["tuning.r=4,8", "sweep.metric=val/chrf", "pruner=median", "evaluation.during_examples=0"],
            "sweep.metric",
            "evaluation.during_examples is 0",
        ),
        (["tuning.r=4,8", "sweep.metric=train/gradient_norm"], "sweep.direction", "not known"),
        (["tuning.r=4,8", "sweep.metric=val/chrf", "sweep.direction=minimize"], "sweep.direction", "the worst"),
        (["tuning.r=4,8", "sweep.metric=seconds", "sweep.direction=maximize"], "sweep.direction", "the worst"),
        (["tuning.r=4,8", "pruner=median", "sweep.metric=test/chrf"], "sweep.metric", "during training"),
        (["seed=1,2", "sweep.seeds=2"], "sweep.seeds", "varies already"),
        (["tuning.r=4,8", "sweep.direction=[minimize,maximize]"], "sweep.direction", "one direction for each"),
        (
            ["tuning.r=4,8", "hydra/sweeper=cmaes", "sweep.num_points=3", "sweep.metric=[val/loss,seconds]"],
            "sweep.metric",
            "only one metric",
        ),
        (["tuning.r=4,8", "pruner=median", "sweep.metric=[val/loss,seconds]"], "sweep.pruner", "one metric"),
        (["tuning.r=4,8", "hydra/launcher=slurm"], "hydra.launcher.cluster", "sbatch"),
    ],
)
def test_refused(lab, tiny, capsys, overrides, key, reason):
    found = problems(capsys, *tiny, *overrides)
    assert reason in found[key]


@pytest.mark.slow
def test_one_wrong_point_of_a_grid_is_named(lab, tiny, capsys):
    found = problems(capsys, *tiny, "tuning.r=4,0", "optimizer.lr=1e-3,1e-4")
    assert "tuning.r=0, optimizer.lr=0.001 and 1 more points" in found["tuning.r"]


@pytest.mark.slow
def test_trials_on_a_cluster_are_checked_without_the_devices_of_this_machine(lab, tiny, monkeypatch):
    monkeypatch.setattr("instruct_lab.model.hardware.no_gpu", lambda: "there is no GPU here")
    monkeypatch.setattr("instruct_lab.sweep.launchers.slurm.shutil.which", lambda name: f"/usr/bin/{name}")
    overrides = [*tiny, "trainer=gpu", "tuning.r=4,8"]
    for launcher in (["hydra/launcher=slurm"], ["hydra/launcher=ray", "hydra.launcher.address=head:6379"]):
        assert len(plan([*overrides, *launcher]).checked) == 2
    for launcher in ([], ["hydra/launcher=slurm", "hydra.launcher.cluster=local"]):
        with pytest.raises(ConfigError, match=r"trainer\.accelerator"):
            plan([*overrides, *launcher])


@pytest.mark.parametrize(
    ("gpus", "arguments", "expected"),
    [
        (0, {}, False),
        (1, {}, False),
        (4, {}, True),
        (4, {"devices": -1}, True),
        (4, {"devices": [2]}, False),
        (4, {"devices": "0,1"}, True),
        (4, {"accelerator": "cpu"}, False),
        (0, {"devices": 2}, True),
        (0, {"num_nodes": 2}, True),
    ],
    ids=str,
)
def test_a_trial_of_several_devices_runs_in_its_own_process(monkeypatch, gpus, arguments, expected):
    monkeypatch.setattr("instruct_lab.model.hardware.no_gpu", lambda: None if gpus else "there is no GPU here")
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    experiment = types.SimpleNamespace(trainer=ExternalClass("pytorch_lightning.Trainer", arguments))
    assert _needs_own_process(experiment) is expected


def test_several_values_without_m_are_refused_with_the_way_to_make_a_sweep(lab, tiny, capsys):
    assert cli.main(["train", *tiny, "tuning.r=4,8"]) == 2
    assert "train -m" in capsys.readouterr().err
    assert not list(lab.glob("runs/*"))


@pytest.mark.slow
def test_a_study_in_which_something_varies_is_a_sweep_and_an_override_fixes_it(lab, tiny):
    (lab / "experiments").mkdir()
    (lab / "experiments" / "ranks.yaml").write_text(
        "# @package _global_\n# ranks: which rank?\n"
        "sweep:\n  space:\n    tuning.r: 4,8,16\n    optimizer.lr: [1.0e-3, 1.0e-4]\n"
    )
    planned = plan([*tiny, "experiments=ranks", "tuning.r=2"])
    assert [planned.space.overrides(point) for point in planned.space.grid()] == [
        ["optimizer.lr=0.001"],
        ["optimizer.lr=0.0001"],
    ]
    assert "tuning.r=2" in planned.base


@pytest.mark.slow
def test_a_study_whose_choices_are_all_fixed_is_one_run(lab, tiny):
    (lab / "experiments").mkdir()
    (lab / "experiments" / "ranks.yaml").write_text("# ranks: which rank?\nsweep:\n  space:\n    tuning.r: 4,8\n")
    short = ["trainer.max_steps=1", "evaluation.before=false", "evaluation.splits=[validation]", "metrics=perplexity"]
    assert cli.main(["train", *tiny, *short, "experiments=ranks", "tuning.r=2"]) == 0
    assert len(list(lab.glob("runs/*/*/manifest.json"))) == 1
    assert not list(lab.glob("runs/*/*/sweep.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["data=both"],
        ["data.split.test=0", "metrics=perplexity"],
        ["data=pairs", "objective=dpo", "metrics=preference"],
        ["tuning=few_shot"],
    ],
)
def test_the_values_that_a_sweep_may_optimise_are_those_of_the_record(lab, tiny, train, options):
    sums = [{"instruction": f"{n} + {n}?", "output": f"It is {2 * n}."} for n in range(40)]
    pairs = [{"prompt": f"{n} + {n}?", "chosen": f"It is {2 * n}.", "rejected": "No."} for n in range(40)]
    for name, rows in (("sums", sums), ("pairs", pairs)):
        (lab / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = data_set("rows.jsonl", validation=0.2, test=0.2)
    write_data(lab, "both", mixture(words=words, sums=data_set("sums.jsonl", validation=0.3)))
    write_data(lab, "pairs", data_set("pairs.jsonl", row_format="Preference", validation=0.3, test=0.3))
    options = ["trainer.max_steps=2", "trainer.val_check_interval=2", *options]
    record = train(*options)
    experiment = check([*tiny, *options]).or_refuse().experiment
    file = record / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    logged = {name for line in lines for name in line if "/" in name}
    assert logged == set(training_values(experiment))
    results = json.loads((record / "summary.json").read_text())["metrics"]
    assert set(results) == set(result_values(experiment))


@pytest.mark.slow
def test_the_config_of_a_run_has_no_sweep_settings():
    composition = compose(["sweep.seeds=3", "hydra/sweeper=tpe", "pruner=median"])
    assert "sweep" not in composition.config
    assert not {"pruner", "hydra/sweeper", "hydra/launcher"} & set(composition.choices)


@pytest.mark.slow
def test_directions_follow_the_metrics(lab, tiny):
    planned = plan([*tiny, "tuning.r=4,8", "sweep.metric=[val/loss,val/chrf,seconds,test/perplexity]"])
    assert planned.directions == ["minimize", "maximize", "minimize", "minimize"]
