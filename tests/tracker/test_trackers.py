"""Trackers receive what a run logs, and never end it."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.exhaustive import exhaustive

from instruct_lab.config import component
from instruct_lab.records import RunRecord
from instruct_lab.tracker import Tracker, TrackerSession, Wandb
from instruct_lab.tracker.wandb import has_key


@pytest.fixture
def record(tmp_path) -> RunRecord:
    return RunRecord.create(tmp_path / "runs", "study", {"seed": 1}, ["seed=1"], choices={"tuning": "lora"})


@pytest.fixture(autouse=True)
def no_account(tmp_path, monkeypatch):
    """No key, no settings and no server of the machine's own."""
    for name in ("API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL", "MODE", "ENTITY", "PROJECT"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)


# ---- whether there is a key


def test_without_a_key_auto_is_offline_and_online_is_refused():
    assert not has_key()
    assert Wandb().resolved_mode() == "offline"
    assert [problem.key for problem in Wandb(mode="online").problems()] == ["mode"]
    assert not list(Wandb().problems())


@pytest.mark.parametrize(
    ("netrc", "found"),
    [
        ("machine api.wandb.ai login user password {key}", True),
        ("machine api.forge.coreweave.com\n  login user\n  password {key}\n", True),
        ("machine elsewhere.org login user password {key}", False),
        ("machine api.wandb.ai login user password", False),
        ("not a netrc file at all", False),
    ],
)
def test_a_key_in_the_netrc_file_is_found_by_host(tmp_path, netrc, found):
    (tmp_path / "netrc").write_text(netrc.format(key="0" * 40))
    assert has_key() is found
    assert Wandb().resolved_mode() == ("online" if found else "offline")
    assert bool(list(Wandb(mode="online").problems())) is not found


def test_a_key_counts_for_its_own_server_only(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine wandb.example.org:8080 login user password " + "0" * 40)
    assert not has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert has_key()
    monkeypatch.delenv("WANDB_BASE_URL")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text("[default]\nbase_url = https://wandb.example.org:8080\n")
    assert has_key()


def test_the_environment_decides_only_for_auto(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert Wandb().resolved_mode() == "online"
    for value, mode in [("offline", "offline"), ("dryrun", "offline"), ("disabled", "disabled"), ("online", "online")]:
        monkeypatch.setenv("WANDB_MODE", value)
        assert Wandb().resolved_mode() == mode
        assert Wandb(mode="disabled").resolved_mode() == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings").write_text("[default]\nmode = offline\n")
    assert Wandb().resolved_mode() == "offline"


# ---- wandb, for real

RUN = """
import sys
from instruct_lab.records import RunRecord
from instruct_lab.tracker import Wandb
config = {"_target_": "a.B", "name": None, "seed": 1, "tuning": {"_target_": "a.C", "r": 16}}
tags = ["tuning=lora", "data=" + "x" * 99, "tuning=lora"]
for path in sys.argv[2:]:
    session = Wandb(tags=["mine"]).start(RunRecord.open(path), config, tags, "a study")
    session.log({"train/loss": 2.0}, step=1)
    session.log({"train/loss": 1.5, "val/loss": float("nan")}, step=2)
    session.log_table("predictions", ["id", "text", "before"], [["1", "é", None], ["2", "b", 3.0]])
    session.summarize({"test/chrf/after": 47.0})
    print(session.where())
    session.finish(int(sys.argv[1]))
"""


def offline_runs(*records: RunRecord, exit_code: int) -> list[str]:
    command = [sys.executable, "-c", RUN, str(exit_code), *(str(record.path) for record in records)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no chatter
    return done.stdout.splitlines()


def read_back(folder: Path) -> dict:
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--summary", "--json", str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_an_offline_run_can_be_read_back(record):
    (line,) = offline_runs(record, exit_code=1)
    (folder,) = (record.path.parent.parent / "wandb").glob("offline-run-*")
    assert "wandb leet runs/wandb;" in line
    assert line.endswith(f"wandb sync runs/wandb/{folder.name}")
    (table,) = folder.rglob("*.table.json")
    assert json.loads(table.read_text())["data"] == [["1", "é", None], ["2", "b", 3.0]]
    if shutil.which("wandb", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("the wandb command is not beside this Python")
    found = read_back(folder)
    assert found["run_id"] == f"study-{record.id}"
    assert found["name"] == f"seed=1 {record.id}"
    config = {"_target_": "a.B", "name": None, "seed": 1, "tuning": {"_target_": "a.C", "r": 16}}
    assert found["config"] == {"_target_": "a.B", "name": None, "seed": 1, "tuning": "lora", "settings": config}
    assert found["summary"]["_step"] == 2  # the table and the final values have no step of their own
    assert sorted(found["tags"]) == sorted(["tuning=lora", ("data=" + "x" * 99)[:64], "mine"])
    assert (found["state"], found["exit_code"]) == ("failed", 1)
    assert found["summary"]["train/loss"] == 1.5
    assert found["summary"]["test/chrf/after"] == 47


KEPT = """
import sys
from pathlib import Path
from instruct_lab.records import RunRecord
from instruct_lab.tracker import Wandb
record = RunRecord.open(sys.argv[1])
for folder in ("best-000006", "last-000006"):
    (record.path / "checkpoints" / folder).mkdir(parents=True)
    (record.path / "checkpoints" / folder / "adapter_model.safetensors").write_bytes(b"0" * 8)
session = Wandb(mode="offline", log_artifacts=sys.argv[2]).start(record, {}, ["tuning=lora"], "sweep-1")
session.log_weights(record.path / "checkpoints" / "best-000006")
session.finish(0)
"""


def raw_records(folder: Path) -> list[dict]:
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(folder)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ("none", []),
        exhaustive("weights", ["weights"]),
        exhaustive("record", ["record"]),
        ("all", ["weights", "record"]),
    ],
)
def test_weights_and_record_are_kept_as_artifacts_where_asked_for(record, asked, kept):
    if shutil.which("wandb", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("the wandb command is not beside this Python")
    subprocess.run([sys.executable, "-c", KEPT, str(record.path), asked], check=True)
    (folder,) = (record.path.parent.parent / "wandb").glob("offline-run-*")
    entries = raw_records(folder)
    (run,) = [entry["run"] for entry in entries if entry["type"] == "run"]
    assert (run["run_group"], run["tags"]) == ("sweep-1", ["tuning=lora"])
    artifacts = {entry["artifact"]["name"]: entry["artifact"] for entry in entries if entry["type"] == "artifact"}
    assert list(artifacts) == [f"study-{record.id}-{name}" for name in kept]
    files = {
        name.rpartition("-")[2]: {file["path"]: file["local_path"] for file in artifact["manifest"]["contents"]}
        for name, artifact in artifacts.items()
    }
    weights = record.path / "checkpoints" / "best-000006" / "adapter_model.safetensors"
    if "weights" in kept:
        assert files["weights"] == {weights.name: str(weights)}  # read from the record, not copied
    if "record" in kept:
        assert set(files["record"]) == {"config.yaml", "overrides.yaml", "manifest.json"}


@pytest.mark.slow
def test_all_runs_share_one_folder(tmp_path):
    records = [RunRecord.create(tmp_path / "runs", name, {}, []) for name in ("one", "two words")]
    offline_runs(*records, exit_code=0)
    folders = sorted(path.name for path in (tmp_path / "runs" / "wandb").glob("offline-run-*"))
    assert [any(name.endswith(record.id) for name in folders) for record in records] == [True, True]


@pytest.mark.slow
def test_a_disabled_run_writes_nothing_and_shows_nothing(record):
    session = Wandb(mode="disabled", log_artifacts="all").start(record, {}, [], "study")
    session.log({"train/loss": 1.0}, step=1)
    session.log_table("t", ["a"], [[1]])
    session.summarize({"test/chrf": 1.0})
    session.log_weights(record.path)
    assert session.where() is None
    session.finish(0)
    assert not (record.path.parent.parent / "wandb").exists()


UNREACHABLE = """
import sys
from instruct_lab.records import RunRecord
from instruct_lab.tracker import Wandb, wandb
wandb.INIT_SECONDS = 2.0
session = Wandb().start(RunRecord.open(sys.argv[1]), {}, [], "study")
session.log({"train/loss": 1.0}, step=1)
print(session.where())
session.finish(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("key", ["0" * 40, exhaustive("too short")])
def test_a_server_that_cannot_be_reached_leaves_an_offline_run(record, key):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # nobody listens there
        environment = {**os.environ, "WANDB_API_KEY": key, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
        command = [sys.executable, "-c", UNREACHABLE, str(record.path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("offline; see it: wandb leet runs/wandb;")
    assert done.stderr.startswith("wandb cannot be reached, so this run is logged offline: ")
    assert list((record.path.parent.parent / "wandb").glob(f"offline-run-*-study-{record.id}-offline/*.wandb"))


# ---- failing trackers


class Recording(TrackerSession):
    def __init__(self, failing: str = ""):
        self.failing, self.calls = failing, []

    def _called(self, name):
        self.calls.append(name)
        if name in self.failing.split():
            raise OSError("no space left")

    def log(self, values, step):
        self._called("log")

    def log_table(self, name, columns, rows):
        self._called("log_table")

    def summarize(self, values):
        self._called("summarize")

    def finish(self, exit_code):
        self._called("finish")

    def where(self):
        self._called("where")
        return "there"


SESSION = Recording()


@component
class Failing(Tracker):
    """Fails at the calls that are named."""

    at: str = ""

    def connect(self, record, config, tags, group):
        if self.at == "connect":
            raise OSError("no space left")
        SESSION.failing, SESSION.calls = self.at, []
        return SESSION


@pytest.mark.parametrize("at", ["connect", "log", "log finish", "log_table", "summarize", "where", "finish"])
def test_a_tracker_that_fails_is_logged_once_and_left_out(record, caplog, at):
    with caplog.at_level(logging.WARNING):
        session = Failing(at=at).start(record, {}, [], "study")
        for step in range(3):
            session.log({"train/loss": 1.0}, step=step)
        session.log_table("predictions", ["a"], [[1]])
        session.summarize({"test/chrf": 1.0})
        session.where()
        session.finish(1)
        session.finish(1)
    assert len(caplog.records) == 1
    assert "Failing failed, and the run continues without it: OSError: no space left" in caplog.text
    assert "Failing failed" in (record.path / "log.txt").read_text()
    if at.startswith("log") and at != "log_table":
        assert SESSION.calls == ["log", "finish"]  # closed once all the same
    elif at == "finish":
        assert SESSION.calls == ["log"] * 3 + ["log_table", "summarize", "where", "finish"]


def test_ctrl_c_while_the_run_waits_for_a_tracker_ends_the_run(record):
    session = Failing().start(record, {}, [], "study")
    answered = threading.Event()
    SESSION._called = lambda name: answered.wait(30)
    timer = threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            session.log({}, step=1)
    finally:
        signal.signal(signal.SIGINT, before)
        answered.set()
        del SESSION._called
