"""`instruct-lab dashboard`: every record is shown in trackio, once, as it is, and nothing leaves this machine."""

import http.client
import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from datetime import datetime

import pytest
from filelock import FileLock
from support.records import size_up_to

from instruct_lab import cli
from instruct_lab.errors import InstructLabError
from instruct_lab.pages.loopback import is_loopback
from instruct_lab.records import PredictionLine, RunRecord, Summary
from instruct_lab.records.folder import LOCK
from instruct_lab.tracker import Trackio
from instruct_lab.tracker.dashboard import _start, import_runs
from instruct_lab.tracker.start import start_trackers

SUMMARY = {
    "seconds": 2.0,
    "metrics": {"test/chrf": {"after": {"value": 20.0, "low": 18.0, "high": 22.0, "count": 2, "signature": "x"}}},
}
PREDICTION = {
    "id": "1",
    "split": "test",
    "prompt": "p",
    "prediction": "<b>é",
    "references": ["x"],
    "scores": {"f1": 0.5},
}
CHOICES = {"tuning": "lora", "experiments": "a_study"}


@pytest.fixture
def runs_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def recorded(runs_path, name="study", status="finished", config=None, steps=(1, 2), **facts):
    """A record as a run leaves it."""
    config = config or {"_target_": "a.B", "seed": 1, "tuning": {"r": 16}, "tracker": {}}
    record = RunRecord.create(runs_path, name, config, [], choices=CHOICES, **facts)
    for step in steps:
        record.append_metrics(step=step, epoch=0, values={"train/loss": 3.0 - step, "val/loss": float("nan")})
    if status == "finished":
        record.write_summary(Summary.from_json(SUMMARY))
        record.write_predictions([PredictionLine.from_json(PREDICTION)])
    if status != "running":
        record.write_manifest(status=status)
    return record


def stored_runs(runs_path, project="instruct-lab"):
    """What trackio holds: run id to name, settings and logged lines."""
    with sqlite3.connect(runs_path / "trackio" / f"{project}.db") as database:
        lines = database.execute("select run_id, run_name, step, metrics from metrics order by id").fetchall()
        settings = dict(database.execute("select run_id, config from configs").fetchall())
    runs = {
        run_id: {"name": name, "settings": json.loads(settings[run_id]), "lines": []} for run_id, name, _, _ in lines
    }
    for run_id, _, step, metrics in lines:
        runs[run_id]["lines"].append((step, json.loads(metrics)))
    return runs


# ---- importing


def test_a_record_is_shown_with_its_curves_final_values_tables_and_settings(runs_path):
    record = recorded(runs_path)
    assert import_runs(runs_path) == 1
    ((run_id, run),) = stored_runs(runs_path).items()
    assert (run_id, run["name"]) == (record.id, f"study {record.id}")
    settings = run["settings"]
    assert (settings["seed"], settings["tuning.r"], settings["tuning"], settings["status"]) == (
        1,
        16,
        "lora",
        "finished",
    )
    assert settings["_Group"] == "a_study"
    assert settings["_Created"] == datetime.fromisoformat(record.manifest.started).isoformat()
    curve = [(step, values["train/loss"]) for step, values in run["lines"] if "train/loss" in values]
    assert curve == [(1, 2.0), (2, 1.0)]
    rest = {name: value for _, values in run["lines"][2:] for name, value in values.items()}
    assert (rest["test/chrf/after"], rest["cost/seconds"]) == (20.0, 2.0)
    assert not [name for name in rest if name.endswith(("_low", "_high"))]
    result = {
        "metric": "test/chrf",
        "system": "after",
        "value": 20.0,
        "low": 18.0,
        "high": 22.0,
        "count": 2,
        "notes": "",
    }
    assert rest["results"] == {"_type": "trackio.table", "_value": [result]}
    (row,) = rest["predictions"]["_value"]
    assert (row["prompt"], row["prediction"], row["references"], row["f1"]) == ("p", "<b>é", "x", 0.5)


def test_importing_twice_changes_nothing(runs_path):
    for _ in range(3):
        recorded(runs_path)
    assert import_runs(runs_path) == 3
    before = stored_runs(runs_path)
    assert import_runs(runs_path) == 0
    assert stored_runs(runs_path) == before
    recorded(runs_path)
    assert import_runs(runs_path) == 1
    assert len(stored_runs(runs_path)) == 4


def test_a_resumed_run_is_imported_again_without_its_old_lines(runs_path):
    record = recorded(runs_path, status="interrupted")
    import_runs(runs_path)
    record.write_manifest(status="running")
    record.truncate_metrics(size_up_to(record.path, 1))
    record.append_metrics(step=2, epoch=0, values={"train/loss": 0.25})
    record.write_manifest(status="finished")
    assert import_runs(runs_path) == 1
    (run,) = stored_runs(runs_path).values()
    assert run["settings"]["status"] == "finished"
    curve = [(step, values["train/loss"]) for step, values in run["lines"] if "train/loss" in values]
    assert curve == [(1, 2.0), (2, 0.25)]


@pytest.mark.parametrize("tracker", ["wandb", "csv", "none"])
def test_a_run_is_imported_whatever_tracker_followed_it(runs_path, tracker):
    chosen = {"wandb": {"wandb": {"_target_": "instruct_lab.tracker.Wandb"}}, "none": {}}
    config = {
        "tracker": chosen.get(tracker, {"csv": {"_target_": "pytorch_lightning.loggers.CSVLogger"}, "gone": None})
    }
    record = recorded(runs_path, config=config)
    assert import_runs(runs_path) == 1
    assert list(stored_runs(runs_path)) == [record.id]


def test_a_run_keeps_the_project_and_group_of_its_config(runs_path):
    tracker = {"_target_": "instruct_lab.tracker.Trackio", "project": "mine", "group": "g"}
    recorded(runs_path, config={"tracker": {"trackio": tracker}}, sweep={"id": "sweep-1"})
    recorded(runs_path, sweep={"id": "sweep-1"})
    assert import_runs(runs_path) == 2
    assert [run["settings"]["_Group"] for run in stored_runs(runs_path, "mine").values()] == ["g"]
    assert [run["settings"]["_Group"] for run in stored_runs(runs_path).values()] == ["sweep-1"]


@pytest.mark.slow
def test_failed_and_killed_runs_are_imported_and_running_ones_are_not(runs_path):
    failed = recorded(runs_path, status="failed", steps=())
    killed = recorded(runs_path, status="running")
    running = recorded(runs_path, status="running")
    with FileLock(running.path / LOCK):
        assert import_runs(runs_path) == 2
    assert set(stored_runs(runs_path)) == {failed.id, killed.id}
    assert stored_runs(runs_path)[failed.id]["settings"]["status"] == "failed"
    assert import_runs(runs_path) == 1  # free now, so it was killed


def test_a_record_that_cannot_be_read_is_logged_and_does_not_hide_the_others(runs_path, caplog):
    broken, whole = recorded(runs_path), recorded(runs_path)
    summary = (broken.path / "summary.json").read_text(encoding="utf-8")
    (broken.path / "summary.json").write_text("{", encoding="utf-8")
    seen = {}
    assert [import_runs(runs_path, seen) for _ in range(3)] == [1, 0, 0]
    assert list(stored_runs(runs_path)) == [whole.id]
    assert caplog.text.count(f"{broken.path} is not shown") == 1
    (broken.path / "summary.json").write_text(summary, encoding="utf-8")
    assert import_runs(runs_path, seen) == 1


def test_a_second_folder_of_runs_in_one_process_is_refused(tmp_path, runs_path, caplog):
    recorded(runs_path)
    other = recorded(tmp_path / "elsewhere")
    assert import_runs(runs_path) == 1
    assert import_runs(tmp_path / "elsewhere") == 0
    assert f"{other.path} is not shown" in caplog.text
    assert "already uses trackio with the folder" in caplog.text
    assert len(stored_runs(runs_path)) == 1


# ---- live


@pytest.mark.slow
def test_a_live_run_is_shown_while_it_runs_and_once_when_it_has_ended(runs_path):
    record = recorded(runs_path, status="running", steps=(), sweep={"id": "sweep-1"})
    (session,) = start_trackers({"trackio": Trackio()}, record, record.config, CHOICES).values()
    for step in (1, 2):
        record.append_metrics(step=step, epoch=0, values={"train/loss": 3.0 - step})
        session.log({"train/loss": 3.0 - step}, step=step)
    (run,) = stored_runs(runs_path).values()
    assert run["lines"] == [(1, {"train/loss": 2.0})]  # the second waits to be written with others
    assert (run["settings"]["_Group"], run["settings"]["tuning.r"]) == ("sweep-1", 16)
    session.log_table("predictions", ["a"], [[1]])
    session.summarize({"test/chrf/after": 20.0, "test/chrf/after_low": 18.0})
    assert session.where() == "see it: instruct-lab dashboard --runs runs"
    session.finish(0)
    record.write_summary(Summary.from_json(SUMMARY))
    record.write_manifest(status="finished")
    assert import_runs(runs_path) == 1
    (run,) = stored_runs(runs_path).values()
    assert [values["train/loss"] for _, values in run["lines"] if "train/loss" in values] == [2.0, 1.0]
    assert import_runs(runs_path) == 0
    assert not (record.path / "log.txt").exists()


def test_a_resumed_live_run_begins_with_what_its_record_kept(runs_path):
    record = recorded(runs_path, status="running")
    (session,) = start_trackers({"trackio": Trackio()}, record, record.config, CHOICES).values()
    session.log({"train/loss": 0.5}, step=3)
    session.finish(0)
    (run,) = stored_runs(runs_path).values()
    assert [(step, values["train/loss"]) for step, values in run["lines"]] == [(1, 2.0), (2, 1.0), (3, 0.5)]


# ---- the command


def test_without_trackio_the_command_says_what_to_install(runs_path, monkeypatch, capsys):
    recorded(runs_path)
    monkeypatch.setattr("instruct_lab.tracker.dashboard.is_installed", lambda module: False)
    assert cli.main(["dashboard"]) == 2
    message = capsys.readouterr().err
    assert "pip install 'instruct-lab[dashboard]'" in message
    assert len(message.splitlines()) == 1


def test_without_trackio_a_config_that_names_it_is_refused(monkeypatch):
    monkeypatch.setattr("instruct_lab.optional_packages.is_installed", lambda module: False)
    (problem,) = Trackio().problems()
    assert "which is not installed: pip install 'instruct-lab[dashboard]'" in problem.reason


def test_without_runs_there_is_nothing_to_show(runs_path, capsys):
    assert cli.main(["dashboard"]) == 2
    assert "There are no runs yet" in capsys.readouterr().err
    assert not runs_path.exists()


@pytest.mark.slow
def test_a_port_that_is_taken_is_refused(runs_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRACKIO_PLOT_ORDER", "val/*")
    running = recorded(runs_path, status="running")  # nothing to import: trackio's folder is ours all the same
    with socket.socket() as taken, FileLock(running.path / LOCK):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for refused in (port, -1, 65536):
            assert cli.main(["dashboard", "--no-browser", f"--port={refused}"]) == 2
            (error,) = capsys.readouterr().err.splitlines()
            assert f"port {refused}" in error
            assert "choose another --port" in error
        with pytest.raises(InstructLabError, match="cannot start"):
            _start(runs_path / "trackio", port, browser=False)
    assert os.environ["TRACKIO_DIR"] == str(runs_path / "trackio")


FOLLOWED = """
import sys
from datetime import UTC, datetime
from pathlib import Path
heard = []
ASKS = ("socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, arguments: heard.append(event) if event in ASKS else None)
from instruct_lab.tracker.trackio_store import StoredRun
run = StoredRun(Path("runs/trackio"), "instruct-lab", "an id", "a name")
run.begin({"seed": 1}, "group", datetime.now(UTC))
run.add({"train/loss": 1.0}, 1, datetime.now(UTC))
run.write()
print(len(heard))
"""


@pytest.mark.slow
def test_a_live_run_asks_no_server_whatever_the_environment_names(runs_path):
    hub = {
        "TRACKIO_SPACE_ID": "someone/space",
        "TRACKIO_BUCKET_ID": "someone/bucket",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    environment = {**os.environ, **hub, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_" + "x" * 34}
    command = [sys.executable, "-c", FOLLOWED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert list(stored_runs(runs_path)) == ["an id"]


def status_of(port, method, route, host):
    """The status of the answer to a request with a header `Host` of our own, or without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.putrequest(method, route, skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize(
    ("hosts", "local"),
    [
        ([b"localhost"], True),
        ([b"127.0.0.1:7860"], True),
        ([b"[::1]:7860"], True),
        ([], False),
        ([b""], False),
        ([b"localhost", b"evil.example"], False),
        ([b"localhost.evil.example"], False),
        ([b"evil.example:127.0.0.1"], False),
        ([b"localhost:7860@evil.example"], False),
        ([b"127.0.0.1\n"], False),
        ([b"0.0.0.0:7860"], False),
        ([b"192.168.0.7:7860"], False),
    ],
)
def test_only_one_local_host_name_is_answered(hosts, local):
    assert is_loopback(hosts) is local


WATCHED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started us in the background ignored it
addresses = set()
def heard(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto") and isinstance(arguments[1], tuple):
        addresses.add(arguments[1][0])
    elif event == "socket.getaddrinfo":
        addresses.add(arguments[0] if isinstance(arguments[0], str) else (arguments[0] or b"").decode())
sys.addaudithook(heard)
from instruct_lab.cli import main
code = main(["dashboard", "--no-browser", "--port", sys.argv[1]])
print(*sorted(addresses))
sys.exit(code)
"""


@pytest.mark.slow
def test_the_page_is_served_only_to_this_machine_and_makes_no_requests(runs_path, tmp_path):
    record = recorded(runs_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir()
    hub = {"TRACKIO_SPACE_ID": "someone/space", "TRACKIO_BUCKET_ID": "someone/bucket", "HF_TOKEN": "hf_" + "x" * 34}
    environment = {**os.environ, **hub, "HOME": str(home), "HF_HOME": str(home / "hf")}
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert select.select([process.stdout], [], [], 90)[0], "it did not start"
        assert process.stdout.readline().startswith(f"dashboard: http://127.0.0.1:{port}?project=instruct-lab")
        assert process.stdout.readline() == "1 ended runs, 1 of them new here; Ctrl-C ends it\n"
        address = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{address}/") as page:
            assert b"Trackio" in page.read()
        asked = urllib.request.Request(
            f"{address}/api/get_runs_for_project",
            data=json.dumps({"project": "instruct-lab"}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(asked) as answer:
            assert record.id in answer.read().decode()
        for host in ("evil.example", "127.0.0.1.evil.example", f"localhost.evil.example:{port}", "", None):
            for route in (
                "/",
                "/version",
                "/api/get_runs_for_project",
                "/static/trackio/x.png",
                "/file?path=/etc/passwd",
            ):
                for method in ("GET", "POST"):
                    assert status_of(port, method, route, host) == 421, (host, route, method)
        assert status_of(port, "GET", "/version", f"LOCALHOST:{port}") == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out.split() == ["127.0.0.1"]
    assert [path for path in home.rglob("*") if path.is_file()] == []
