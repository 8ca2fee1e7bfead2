"""A method, metric, objective and schedule from outside the package: each one class and one YAML, nothing edited."""

import json
import shutil
from pathlib import Path

import pytest
from support.records import logged, newest_run

from instruct_lab import cli
from instruct_lab.config.options import options
from instruct_lab.config.scaffold import EXAMPLES
from instruct_lab.experiment.check import check
from instruct_lab.experiment.matrix import component_of

ADDED = ["tuning=my_loha", "objective=my_focal", "metrics=[perplexity,my_starts_alike]", "lr_scheduler=my_steps"]
SMALL = ["model=tiny_random", "tracker=none", "generation.max_new_tokens=4", "trainer.max_steps=4"]
FILES = [
    *("my_methods.py", "my_metrics.py", "my_objectives.py", "my_schedules.py", "conf/lr_scheduler/my_steps.yaml"),
    *("conf/tuning/my_loha.yaml", "conf/metrics/my_starts_alike.yaml", "conf/objective/my_focal.yaml"),
]


@pytest.fixture
def extended(lab):
    """A lab with four modules and four options more, without permission to run them."""
    for name in FILES:
        (lab / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(EXAMPLES / name, lab / name)
    return lab


@pytest.mark.slow
def test_a_run_trains_with_all_of_them(extended, capsys):
    assert cli.main(["train", "data=mine", *ADDED, *SMALL]) == 2
    assert "my_methods.py" in capsys.readouterr().err
    assert cli.main(["train", "data=mine", *ADDED, *SMALL, "--allow-lab-code"]) == 0
    record = newest_run(extended)
    summary = json.loads((record / "summary.json").read_text())
    value = summary["metrics"]["test/starts_alike"]["after"]
    assert value["low"] <= value["value"] <= value["high"]
    assert value["signature"].startswith("starts_alike|case:lc")
    assert any("my_methods.py" in use for use in json.loads((record / "manifest.json").read_text())["permissions"])
    assert "my_methods.LoHa" in (record / "config.yaml").read_text()
    losses = [json.loads(line).get("train/loss") for line in (record / "metrics.jsonl").read_text().splitlines()]
    assert all(loss > 0 for loss in losses if loss is not None)
    rates = [rate / 1e-3 for _, rate in logged(record, "train/lr")]  # the rate that LoHa declares; one warm-up step
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.1])
    capsys.readouterr()
    assert cli.main(["generate", record.name, "Turn around number 3", "--allow-lab-code"]) == 0
    assert cli.main(["generate", record.name, "Turn around number 3"]) == 2


@pytest.mark.slow
def test_the_command_line_knows_them_at_once(extended, lab_code_allowed, capsys):
    assert cli.main(["list", "tuning"]) == 0
    assert "my_loha" in capsys.readouterr().out
    assert cli.main(["list", "tuning", "my_loha", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert "Hyeon-Woo" in described["components"][0]["docstring"]
    assert "my_focal" in described["works_with"]["objective"]
    (problem,) = check(["data=mine", *ADDED, "tuning.rank=8"]).problems
    assert "LoHa has no field rank" in problem.reason
    assert component_of("objective", "my_focal").families == {"decoder"}
    (problem,) = check(["data=mine", "model=tiny_encoder_decoder", "template=contents", "objective=my_focal"]).problems
    assert "Focal works with decoder models" in problem.reason


@pytest.mark.slow
def test_every_example_of_a_new_lab_is_right(tmp_path, monkeypatch, few_schemas):
    assert cli.main(["init", str(tmp_path / "mine")]) == 0
    monkeypatch.chdir(tmp_path / "mine")
    groups = ("tuning", "metrics", "objective", "lr_scheduler")
    added = {option.name for group in groups for option in options(group) if option.from_lab}
    assert added >= {"my_loha", "my_starts_alike", "my_focal", "my_steps"}
    assert check(["data=my_data", *ADDED, *SMALL]).problems == []


@pytest.mark.slow
def test_worker_processes_of_a_sweep_inherit_the_permission(extended):
    sweep = ["hydra/launcher=processes", "hydra.launcher.num_processes=1", "tuning.r=1,2", "debug=fast"]
    assert cli.main(["train", "-m", "--allow-lab-code", "data=mine", *ADDED, *SMALL, *sweep]) == 0
    statuses = [json.loads(path.read_text())["status"] for path in Path("runs").rglob("manifest.json")]
    assert statuses == ["finished", "finished"]
