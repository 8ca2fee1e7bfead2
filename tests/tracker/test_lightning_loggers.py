"""Lightning's loggers receive what every tracker receives: settings, values, final values, tables, the group."""

import csv
import importlib
import json

import pytest
from support import fake_loggers
from support.records import size_up_to

from instruct_lab.config import ExternalClass
from instruct_lab.records import RunRecord
from instruct_lab.tracker.start import start_trackers

CONFIG = {"_target_": "a.B", "seed": 1, "tuning": {"r": 16, "lr_factors": {r"layers\.[0-3]": 0.5}}}
CHOICES = {"tuning": "lora", "tracker": ["csv", "mlflow"]}
FINAL = {"test/chrf/before": 10.0, "test/chrf/after": 20.0, "test/chrf/after_low": 18.0}
COLUMNS, ROWS = ["id", "text", "score"], [["1", "a|b <b>\n*c*", 0.5], ["2", "é", None]]


@pytest.fixture
def record(tmp_path, monkeypatch) -> RunRecord:
    monkeypatch.chdir(tmp_path)
    fake_loggers.CALLS.clear()
    return RunRecord.create(tmp_path / "runs", "study", CONFIG, [], choices=CHOICES, sweep={"id": "sweep-1"})


def follow(record, name, tracker, finish=0):
    """A short life of a run."""
    (session,) = start_trackers({name: tracker}, record, CONFIG, CHOICES).values()
    for step in (1, 2):
        values = {"train/loss": 3.0 - step}
        record.append_metrics(step=step, epoch=0, values=values)
        session.log(values, step=step)
    session.log_table("predictions", COLUMNS, ROWS)
    session.summarize(FINAL)
    where = session.where()
    session.finish(finish)
    assert not (record.path / "log.txt").exists(), (record.path / "log.txt").read_text()
    return where


def lightning(kind, **arguments):
    """A logger of Lightning, which is imported before its tracker starts, as in a run: the import can take long."""
    importlib.import_module("pytorch_lightning.loggers")
    return ExternalClass(f"pytorch_lightning.loggers.{kind}", arguments)


# ---- any logger


def test_any_logger_receives_settings_values_and_how_the_run_ended(record):
    arguments = {"folder": "{runs_path}/{group}/{run_id}"}
    follow(record, "any", ExternalClass("support.fake_loggers.Plain", arguments), finish=130)
    assert fake_loggers.calls("init") == [({"folder": f"{record.path.parent.parent}/sweep-1/{record.id}"},)]
    ((settings,),) = fake_loggers.calls("log_hyperparams")
    assert (settings["seed"], settings["tuning.r"]) == (1, 16)
    assert fake_loggers.calls("log_metrics") == [({"train/loss": 2.0}, 1), ({"train/loss": 1.0}, 2), (FINAL, 2)]
    assert fake_loggers.calls("finalize") == [("failed",)]


def test_a_logger_with_tables_receives_them(record):
    follow(record, "any", ExternalClass("support.fake_loggers.WithTables", {}))
    assert fake_loggers.calls("log_table") == [("predictions", COLUMNS, ROWS)]
    assert fake_loggers.calls("finalize") == [("success",)]


# ---- CSV


def test_csv_has_tables_beside_the_metrics(record):
    tracker = lightning("CSVLogger", save_dir="{run_path}", name="csv", version="")
    follow(record, "csv", tracker)
    with (record.path / "csv" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [COLUMNS, ["1", "a|b <b>\n*c*", "0.5"], ["2", "é", ""]]
    with (record.path / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["train/loss"] for line in lines] == ["2.0", "1.0", ""]
    assert lines[-1]["test/chrf/after_low"] == "18.0"


def test_csv_of_a_resumed_run_has_what_was_logged_before(record):
    tracker = lightning("CSVLogger", save_dir="{run_path}", name="csv", version="")
    follow(record, "csv", tracker, finish=143)
    (session,) = start_trackers({"csv": tracker}, record, CONFIG, CHOICES).values()
    record.truncate_metrics(size_up_to(record.path, 1))
    for step in (2, 3):
        record.append_metrics(step=step, epoch=0, values={"train/loss": 0.5})
        session.log({"train/loss": 0.5}, step=step)
    session.finish(0)
    with (record.path / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        assert [(line["step"], line["train/loss"]) for line in csv.DictReader(file)] == [
            ("1", "2.0"),
            ("2", "0.5"),
            ("3", "0.5"),
        ]


# ---- TensorBoard


def test_tensorboard_has_settings_with_final_values_and_tables_as_text(record):
    tracker = lightning(
        "TensorBoardLogger",
        save_dir="{runs_path}",
        name="tensorboard",
        version="{group}/{run_id}",
        default_hp_metric=False,
    )
    where = follow(record, "tensorboard", tracker)
    assert where == "see it: tensorboard --logdir runs/tensorboard"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(record.path.parent.parent / "tensorboard" / "sweep-1" / record.id)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 2.0), (2, 1.0)]
    assert [event.value for event in events.Scalars("test/chrf/after")] == [20.0]
    entries = {
        tag: HParamsPluginData.FromString(content) for tag, content in events.PluginTagToContent("hparams").items()
    }
    (start,) = [data.session_start_info for data in entries.values() if data.HasField("session_start_info")]
    assert start.hparams["tuning.r"].number_value == 16
    (experiment,) = [data.experiment for data in entries.values() if data.HasField("experiment")]
    assert "test/chrf/after" in {info.name.tag for info in experiment.metric_infos}
    (text,) = events.Tensors("predictions/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert shown.splitlines() == [
        "| id | text | score |",
        "| --- | --- | --- |",
        r"| 1 | a&#124;b &lt;b&gt;<br>\*c\* | 0.5 |",
        "| 2 | é |  |",
    ]


# ---- MLflow

MLFLOW = {
    "experiment_name": "{run_name}",
    "run_name": "{run_id}",
    "tracking_uri": "sqlite:///{runs_path}/mlflow.db",
    "artifact_location": "{runs_path}/mlflow",
}


def test_mlflow_receives_settings_tags_and_tables_without_mlflow(record):
    tracker = ExternalClass("support.fake_loggers.MLFlowLogger", {})
    where = follow(record, "mlflow", tracker, finish=143)
    assert where == "see it: mlflow ui --backend-store-uri sqlite:///here/mlflow.db"
    ((settings,),) = fake_loggers.calls("log_hyperparams")
    assert settings["tuning.r"] == 16
    assert settings["tuning.lr_factors.layers_._0-3_"] == 0.5  # MLflow takes no other characters
    tags = {key: value for _, key, value in fake_loggers.calls("set_tag")}
    assert tags == {"group": "sweep-1", "tuning": "lora", "tracker": "csv+mlflow"}
    table = {"id": ["1", "2"], "text": [row[1] for row in ROWS], "score": [0.5, None]}
    assert fake_loggers.calls("log_table") == [("new", table, "predictions.json")]
    assert fake_loggers.calls("finalize") == [("KILLED",)]
    follow(record, "mlflow", tracker)  # goes on
    assert [arguments["run_id"] for (arguments,) in fake_loggers.calls("init")] == [None, "new"]


@pytest.mark.slow
def test_mlflow_keeps_all_in_one_sqlite_file(record):
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    tracker = lightning("MLFlowLogger", **MLFLOW)
    follow(record, "mlflow", tracker, finish=1)
    follow(record, "mlflow", tracker)
    from mlflow.tracking import MlflowClient

    runs_path = record.path.parent.parent
    client = MlflowClient(f"sqlite:///{runs_path}/mlflow.db")
    experiment = client.get_experiment_by_name("study")
    (run,) = client.search_runs([experiment.experiment_id])  # resumed: not a second one
    assert (run.info.run_name, run.info.status) == (record.id, "FINISHED")
    assert (run.data.params["tuning.r"], run.data.params["seed"]) == ("16", "1")
    assert {"group": "sweep-1", "tuning": "lora"}.items() <= run.data.tags.items()
    assert FINAL.items() <= run.data.metrics.items()
    assert {(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")} == {(1, 2.0), (2, 1.0)}
    (file,) = (runs_path / "mlflow").rglob("predictions.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    assert (table["columns"], table["data"]) == (COLUMNS, ROWS)
    assert not list(record.path.parents[2].glob("mlruns"))
