"""A tracker that fails or hangs, ours or Lightning's, never ends a run; the failure is logged once."""

import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import fake_loggers
from support.hanging import no_hang, wait_until

from instruct_lab.config import ExternalClass, component
from instruct_lab.records import RunRecord
from instruct_lab.tracker import Tracker, TrackerSession, Trackio, base
from instruct_lab.tracker.start import start_trackers


@pytest.fixture
def record(tmp_path, monkeypatch) -> RunRecord:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fake_loggers, "CALLS", [])
    monkeypatch.setattr(Session, "released", threading.Event())
    return RunRecord.create(tmp_path / "runs", "study", {"seed": 1}, [])


class Session(TrackerSession):
    """Fails at the calls in `at`, and waits in those in `waits`."""

    released = threading.Event()
    """Ends the waiting; each test has its own."""

    def __init__(self, failing: str, hangs: float, hangs_at: str) -> None:
        self.failing, self.hangs, self.hangs_at = failing.split(), hangs, hangs_at.split()
        self.calls = fake_loggers.CALLS  # of this test, however long one hangs

    def _called(self, name):
        if name in self.hangs_at:
            self.released.wait(self.hangs)
        self.calls.append((name,))
        if name in self.failing:
            raise OSError(28, "No space left on device")

    def log(self, values, step):
        self._called("log_metrics")

    def log_table(self, name, columns, rows):
        self._called("log_table")

    def log_weights(self, path):
        self._called("log_weights")

    def summarize(self, values):
        self._called("summarize")

    def finish(self, exit_code):
        self._called("finalize")

    def where(self):
        return None


@component
class Ours(Tracker):
    """Fails at the calls that are named."""

    failing: str = ""
    hangs: float = 0.0
    hangs_at: str = "finalize"

    def connect(self, record, config, tags, group):
        if "init" in self.failing.split():
            raise ConnectionError("no route to host")
        if "init" in self.hangs_at.split():
            Session.released.wait(self.hangs)
        return Session(self.failing, self.hangs, self.hangs_at)


def ours(failing="", hangs=0.0, hangs_at="finalize"):
    return Ours(failing=failing, hangs=hangs, hangs_at=hangs_at)


def lightnings(failing="", hangs=0.0):
    return ExternalClass("support.fake_loggers.WithTables", {"failing": failing, "hangs": hangs})


def whole_life(session, record):
    """Every call of a run."""
    for step in range(3):
        session.log({"train/loss": 1.0}, step=step)
    session.log_table("predictions", ["a"], [[1]])
    session.summarize({"test/chrf/after": 1.0})
    session.log_weights(record.path)
    session.finish(0)
    session.finish(0)


def failed_once(record, caplog, text):
    logged_once(record, caplog, text)
    assert "the run continues without it" in (record.path / "log.txt").read_text(encoding="utf-8")


def logged_once(record, caplog, text):
    lines = (record.path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert [text in line for line in lines] == [True]
    assert len([entry for entry in caplog.records if entry.name.startswith("instruct_lab")]) == 1


@pytest.mark.parametrize("kind", [ours, lightnings])
@pytest.mark.parametrize("at", ["init", "log_metrics", "log_table", "finalize", "log_metrics finalize"])
def test_a_failure_is_logged_once_and_other_trackers_continue(record, caplog, kind, at):
    with caplog.at_level(logging.WARNING):
        sessions = start_trackers({"bad": kind(at), "good": ours()}, record, {"seed": 1}, {})
        whole_life(sessions["bad"], record)
    before = len(fake_loggers.CALLS)
    failed_once(record, caplog, "no route to host" if at == "init" and kind is ours else "No space left on device")
    if at.startswith("log_metrics"):
        assert [len(fake_loggers.calls(name)) for name in ("log_metrics", "log_table", "finalize")] == [1, 0, 1]
    whole_life(sessions["good"], record)
    assert len(fake_loggers.CALLS) - before >= 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ours, lightnings])
def test_a_tracker_that_hangs_while_closing_is_left_behind(record, caplog, kind, monkeypatch):
    monkeypatch.setattr(base.TrackerSession, "finish_seconds", 0.3)
    with caplog.at_level(logging.WARNING):
        (session,) = start_trackers({"slow": kind(hangs=600.0)}, record, {}, {}).values()
        with no_hang():
            whole_life(session, record)
    logged_once(record, caplog, "it did not close the run within 0.3 s")


@pytest.mark.slow
@pytest.mark.parametrize(("at", "action"), [("init", "connect"), ("log_metrics", "answer"), ("log_weights", "answer")])
def test_a_tracker_that_hangs_is_left_behind_and_receives_everything_later(record, caplog, monkeypatch, at, action):
    for limit in ("CALL_SECONDS", "WEIGHTS_SECONDS"):
        monkeypatch.setattr(base, limit, 0.3)
    with caplog.at_level(logging.WARNING):
        (session,) = start_trackers({"slow": ours(hangs=600.0, hangs_at=at)}, record, {}, {}).values()
        assert session.where() is None
        whole_life(session, record)
        logged_once(record, caplog, f"is late, and the run goes on: it did not {action} within 0.3 s")
        assert not fake_loggers.calls("finalize")
        Session.released.set()
        wait_until(lambda: fake_loggers.calls("finalize"))
    assert len(fake_loggers.calls("finalize")) == 1
    assert len(fake_loggers.calls("log_metrics")) == 3
    assert len(fake_loggers.calls("log_table")) == 1


def test_a_server_that_is_gone_costs_one_timeout(record, caplog, monkeypatch):
    monkeypatch.setattr(base, "CALL_SECONDS", 2.0)
    with no_hang():  # 280 calls that each wait 2 s would take 560 s
        (session,) = start_trackers({"gone": ours(hangs=600.0, hangs_at="init")}, record, {}, {}).values()
        for _ in range(40):
            whole_life(session, record)
    Session.released.set()


def test_a_late_tracker_that_then_fails_is_logged_as_both(record, caplog, monkeypatch):
    monkeypatch.setattr(base, "CALL_SECONDS", 0.3)
    late = ours("log_metrics", hangs=600.0, hangs_at="init")
    (session,) = start_trackers({"late": late}, record, {}, {}).values()
    whole_life(session, record)
    Session.released.set()
    session._last_call.result(10)
    text = (record.path / "log.txt").read_text(encoding="utf-8")
    assert text.count("is late") == 1
    assert text.count("the run continues without it: OSError") == 1
    assert [len(fake_loggers.calls(name)) for name in ("log_metrics", "log_table", "finalize")] == [1, 0, 1]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError(), GeneratorExit()])
def test_a_tracker_that_ends_the_program_ends_nothing(record, caplog, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Session, "log", fail)
    with caplog.at_level(logging.WARNING):
        (session,) = start_trackers({"bad": ours()}, record, {}, {}).values()
        whole_life(session, record)
    failed_once(record, caplog, type(error).__name__)


def test_its_calls_come_in_order_and_from_one_thread(record, monkeypatch):
    threads = set()
    called = Session._called
    monkeypatch.setattr(Session, "_called", lambda *a: (threads.add(threading.get_ident()), called(*a))[1])
    (session,) = start_trackers({"good": ours()}, record, {}, {}).values()
    whole_life(session, record)
    assert [name for name, *_ in fake_loggers.CALLS] == [
        *["log_metrics"] * 3,
        "log_table",
        "summarize",
        "log_weights",
        "finalize",
    ]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_one_that_failed_before_is_given_less_time_to_close(record, monkeypatch):
    monkeypatch.setattr(base, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(Session, "finish_seconds", 600.0)
    (session,) = start_trackers({"bad": ours("log_metrics", hangs=6000.0)}, record, {}, {}).values()
    with no_hang():
        whole_life(session, record)


def test_a_logger_whose_package_is_missing_is_left_out(record, caplog):
    with caplog.at_level(logging.WARNING):
        (session,) = start_trackers({"gone": ExternalClass("no_such_package.Logger", {})}, record, {}, {}).values()
        whole_life(session, record)
    failed_once(record, caplog, "no_such_package")


# ---- real ones


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_lightnings_csv_logger(record, caplog):
    (record.path / "csv").mkdir()
    arguments = {"save_dir": "{run_path}", "name": "csv", "version": "", "flush_logs_every_n_steps": 1}
    with caplog.at_level(logging.WARNING):
        tracker = ExternalClass("pytorch_lightning.loggers.CSVLogger", arguments)
        (session,) = start_trackers({"csv": tracker}, record, {}, {}).values()
        record.append_metrics(step=1, epoch=0, values={"train/loss": 1.0})
        (record.path / "csv" / "metrics.csv").symlink_to("/dev/full")
        whole_life(session, record)
    failed_once(record, caplog, "No space left on device")


def test_a_database_that_was_taken_away_under_trackio(record, caplog):
    with caplog.at_level(logging.WARNING):
        (session,) = start_trackers({"trackio": Trackio()}, record, {}, {}).values()
        session.log({"train/loss": 1.0}, step=1)
        database = record.path.parent.parent / "trackio" / "instruct-lab.db"
        for suffix in ("-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        database.write_bytes(b"no database at all, and long enough to be taken for one" * 100)
        session.log_table("predictions", ["a"], [[1]])
        session.finish(0)
    failed_once(record, caplog, sqlite3.DatabaseError.__name__)


@pytest.mark.slow
def test_no_server_under_lightnings_mlflow_logger(record, caplog, monkeypatch):
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        arguments = {"experiment_name": "x", "tracking_uri": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        with caplog.at_level(logging.WARNING):
            tracker = ExternalClass("pytorch_lightning.loggers.MLFlowLogger", arguments)
            (session,) = start_trackers({"mlflow": tracker}, record, {"seed": 1}, {}).values()
            whole_life(session, record)
    failed_once(record, caplog, "Max retries exceeded")


KILLED_SERVICE = """
import os, signal, sys, time
from pathlib import Path
from instruct_lab.records import RunRecord
from instruct_lab.tracker import Wandb
record = RunRecord.open(sys.argv[1])
session = Wandb(mode="offline").start(record, {}, [], "study")
session.log({"train/loss": 1.0}, step=1)
for folder in Path("/proc").glob("[0-9]*"):
    try:
        parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        continue
    if parent == os.getpid():
        os.kill(int(folder.name), signal.SIGKILL)
time.sleep(0.5)
for step in range(2, 6):
    session.log({"train/loss": 1.0}, step=step)
session.log_table("predictions", ["a"], [[1]])
session.finish(0)
print("the run goes on")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the service is found through /proc")
def test_the_killed_service_of_wandb(record):
    command = [sys.executable, "-c", KILLED_SERVICE, str(record.path)]
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # of another test's run
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "the run goes on\n"
    (line,) = (record.path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert "The tracker Wandb failed" in line
