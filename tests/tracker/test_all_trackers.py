"""All trackers at once receive the same values; a sweep is the group of its runs; a failing tracker ends none."""

import csv
import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support import fake_loggers
from support.records import newest_run

from instruct_lab import cli
from instruct_lab.tracker.dashboard import import_runs

SMALL = [
    *("data=mine", "model=tiny_random", "evaluation.max_examples=2", "evaluation.during_examples=0"),
    *("generation.max_new_tokens=2", "trainer.max_steps=2", "trainer.max_epochs=-1", "evaluation.splits=[test]"),
]
HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None
LOCAL = ["trackio", "tensorboard", "csv", *(["mlflow"] if HAS_MLFLOW else [])]


def settings_of_trackio(runs_path):
    with sqlite3.connect(runs_path / "trackio" / "instruct-lab.db") as database:
        return {run: json.loads(config) for run, config in database.execute("select run_id, config from configs")}


def values_of_trackio(runs_path, run_id):
    values = {}
    with sqlite3.connect(runs_path / "trackio" / "instruct-lab.db") as database:
        for (line,) in database.execute("select metrics from metrics where run_id = ? order by id", (run_id,)):
            values |= json.loads(line)
    return values


def values_of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    values = {}
    for event_folder in {file.parent for file in folder.rglob("events*")}:
        events = EventAccumulator(str(event_folder)).Reload()
        values |= {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}
        values |= {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}
    return values


def runs_of_mlflow(runs_path):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{runs_path.absolute()}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments)


@pytest.mark.slow
def test_all_trackers_at_once_receive_the_same_values(lab):
    chosen = ",".join(["wandb", *LOCAL])
    assert cli.main(["train", *SMALL, f"tracker=[{chosen}]", "tracker.wandb.log_artifacts=all"]) == 0
    run = newest_run(lab)
    assert not (run / "log.txt").exists(), (run / "log.txt").read_text()
    final = json.loads((run / "summary.json").read_text())["metrics"]["test/perplexity"]
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if "train/loss" in line][-1]
    runs_path = run.parent.parent

    found = values_of_trackio(runs_path, run.name)
    assert found["train/loss"] == pytest.approx(last["train/loss"])
    assert found["test/perplexity/before"] == pytest.approx(final["before"]["value"])
    assert {row["system"] for row in found["results"]["_value"]} >= {"before", "after", "difference"}
    assert len(found["predictions"]["_value"]) == 2
    assert settings_of_trackio(runs_path)[run.name]["model"] == "tiny_random"

    found = values_of_tensorboard(runs_path / "tensorboard" / run.parent.name / run.name)
    assert found["train/loss"] == pytest.approx(last["train/loss"])
    assert found["test/perplexity/after_high"] == pytest.approx(final["after"]["high"])
    assert "predictions/text_summary" in found
    assert "_hparams_/session_start_info" in hparams_of(runs_path / "tensorboard")

    with (run / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        assert float(list(csv.DictReader(file))[-1]["test/perplexity/after"]) == pytest.approx(final["after"]["value"])
    assert (run / "csv" / "predictions.csv").is_file()

    if HAS_MLFLOW:
        (followed,) = runs_of_mlflow(runs_path)
        assert followed.data.metrics["test/perplexity/after_low"] == pytest.approx(final["after"]["low"])
        assert followed.data.params["model.weights.settings.hidden_size"] == "16"
        assert list((runs_path / "mlflow").rglob("predictions.json"))

    wandb = Path(sys.executable).parent / "wandb"
    (folder,) = (runs_path / "wandb").glob("offline-run-*")
    assert list(folder.rglob("predictions_*.table.json"))
    if shutil.which(str(wandb)):
        command = [str(wandb), "leet", "inspect", "--summary", "--json", str(folder)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["summary"]
        assert found["train/loss"] == pytest.approx(last["train/loss"])
        for system in ("before", "after"):
            assert found[f"test/perplexity/{system}"] == pytest.approx(final[system]["value"])
            for end in ("low", "high"):
                assert found[f"test/perplexity/{system}_{end}"] == pytest.approx(final[system][end])

    live = values_of_trackio(runs_path, run.name)
    assert import_runs(runs_path) == 1
    imported = values_of_trackio(runs_path, run.name)
    assert imported.keys() == live.keys()
    assert imported["predictions"] == live["predictions"]
    assert imported["results"] == live["results"]


def hparams_of(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tags = set()
    for event_folder in {file.parent for file in folder.rglob("events*")}:
        tags |= set(EventAccumulator(str(event_folder)).Reload().summary_metadata)
    return tags


@pytest.mark.slow
def test_a_sweep_is_the_group_of_its_runs_in_every_tracker_that_knows_groups(lab):
    chosen = ",".join(["wandb", *LOCAL])
    varied = ["-m", "tuning.r=2,4", "sweep.metric=test/perplexity"]
    assert cli.main(["train", *SMALL, f"tracker=[{chosen}]", *varied]) == 0
    manifests = [json.loads(file.read_text()) for file in lab.glob("runs/*/*/manifest.json")]
    (sweep,) = {manifest["sweep"]["id"] for manifest in manifests}
    assert len(manifests) == 2
    runs_path = lab / "runs"
    assert [settings["_Group"] for settings in settings_of_trackio(runs_path).values()] == [sweep] * 2
    assert {folder.name for folder in (runs_path / "tensorboard" / sweep).iterdir()} == {m["id"] for m in manifests}
    if HAS_MLFLOW:
        assert [run.data.tags["group"] for run in runs_of_mlflow(runs_path)] == [sweep] * 2
    wandb = Path(sys.executable).parent / "wandb"
    if shutil.which(str(wandb)):
        for folder in (runs_path / "wandb").glob("offline-run-*"):
            command = [str(wandb), "leet", "inspect", "--json", str(folder)]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            (run,) = [entry["run"] for entry in map(json.loads, lines) if entry["type"] == "run"]
            assert run["run_group"] == sweep


@pytest.mark.slow
@pytest.mark.parametrize("at", ["init", "log_metrics", "log_table", "finalize"])
def test_a_failing_logger_ends_no_run(lab, at, capsys):
    fake_loggers.CALLS.clear()
    (lab / "conf" / "tracker").mkdir()
    option = f"# bad: fails\nbad:\n  _target_: support.fake_loggers.WithTables\n  failing: {at}\n"
    (lab / "conf" / "tracker" / "bad.yaml").write_text(option, encoding="utf-8")
    assert cli.main(["train", *SMALL, "tracker=[bad,csv]"]) == 0
    run = newest_run(lab)
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"
    assert fake_loggers.calls(at)
    (line,) = (run / "log.txt").read_text().splitlines()
    assert "The tracker WithTables failed, and the run continues without it: OSError: [Errno 28] No space left" in line
    assert (run / "csv" / "predictions.csv").is_file()
