"""The table of a sweep: the best trial, the remaining time, and what each trial does now."""

import datetime
import json
import warnings

import pytest
from filelock import FileLock
from support.listed_runs import write_run

from instruct_lab import cli, library_warnings
from instruct_lab.records import RunRecord
from instruct_lab.sweep.record import SweepRecord
from instruct_lab.sweep.samplers import TPE
from instruct_lab.sweep.storage import open_storage
from instruct_lab.sweep.table import LiveTable, SweepTable, best_point, seconds_left
from instruct_lab.sweep.task import Outcome
from instruct_lab.sweep.trial_row import read_trial
from instruct_lab.terminal import open_console

SWEEP = "20260102-030405-abcd1"
POINTS = [{"tuning.r": r, "optimizer.lr": lr} for r in (4, 8) for lr in (0.001, 0.000369123, 0.01)]


def write_sweep(runs_path, num_points=8, metrics=("val/chrf",), directions=("maximize",), seeds=1, status="running"):
    folder = runs_path / "planted" / SWEEP
    folder.mkdir(parents=True)
    started = datetime.datetime.now(datetime.UTC).isoformat()
    entries = {"id": SWEEP, "name": "planted", "status": status, "started": started, "seeds": seeds}
    entries |= {"metrics": metrics, "directions": directions, "num_points": num_points, "dimensions": list(POINTS[0])}
    (folder / "sweep.json").write_text(json.dumps(entries))
    return SweepRecord(folder)


def write_trial(runs_path, number, status="finished", seed=None, steps=0, num_steps=64, **files):
    values = POINTS[number]
    entry = {"id": SWEEP, "point": number, "values": values, "seed": seed or 0}
    overrides = [f"{key}={value}" for key, value in values.items()] + ([] if seed is None else [f"seed={seed}"])
    name = f"{SWEEP}-{number:04d}" + ("" if seed is None else f"-s{seed}")
    facts = {"sweep": entry, "num_steps": num_steps, **files.get("facts", {})}
    record = write_run(runs_path, number + (seed or 0), overrides, status, ["val/chrf"], name, **facts)
    for step in range(1, steps + 1):
        record.append_metrics(step, 0.0, {"train/loss": 3.0 / step, "val/chrf": 20.0 + step})
    if files.get("measured", True):
        record.write_json("before.json", {})
    record.write_manifest(seconds=60.0)
    return record


def lines_of(sweep, width=80, **arguments):
    console = open_console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(SweepTable(sweep).render(width, **arguments))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_of_a_sweep(tmp_path, width):
    sweep = write_sweep(tmp_path)
    for number in range(3):
        write_trial(tmp_path, number)
    write_trial(tmp_path, 3, "pruned", steps=3)
    failure = {"type": "ValueError", "message": "no such layer in this model at all"}
    write_trial(tmp_path, 4, "failed", facts={"exception": failure})
    running = write_trial(tmp_path, 5, "running", steps=12)
    with FileLock(running.path / ".lock"):
        lines = lines_of(sweep, width)
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines[:2])
    assert "6 of 8 runs started; 3 finished, 1 failed, 1 pruned, 1 running; about " in " ".join(text.split("\n"))
    best = next(index for index, line in enumerate(lines) if line.startswith("best so far"))
    assert lines[best] == "best so far: r=4 lr=0.01, val/chrf 32"
    rows = lines[best + 2 : best + 8]
    assert [row[:5] for row in rows] == [" 0000", " 0001", "*0002", " 0003", " 0004", " 0005"]
    assert [row.split()[1] for row in rows] == ["finished"] * 3 + ["pruned", "failed", "running"]
    assert "r=4 lr=0.000369" in rows[1]
    assert "ValueError: no such layer i…" in rows[4]
    assert "step 12 of 64" in rows[5]
    assert ("train/loss" in lines[best + 1]) == (width > 80)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "activity"),
    [
        ({"measured": False}, "preparing the data"),
        ({"measured": False, "facts": {"data_fingerprint": "x"}}, "measuring the base model"),
        ({"facts": {"num_steps": None}}, "starting to train"),
        ({"steps": 0}, "starting to train"),
        ({"steps": 3}, "step 3 of 64"),
        ({"steps": 64}, "measuring the results"),
    ],
)
def test_a_running_trial_says_what_it_does(tmp_path, files, activity):
    sweep = write_sweep(tmp_path)
    record = write_trial(tmp_path, 0, "running", **files)
    with FileLock(record.path / ".lock"):
        row = read_trial(record, sweep.info)
    assert row.status == "running"
    assert row.activity.startswith(activity)
    assert read_trial(record, sweep.info).status == "interrupted"
    assert read_trial(record, sweep.info).activity == ""


@pytest.mark.parametrize(("direction", "best"), [("maximize", 2), ("minimize", 0)])
def test_the_best_point_follows_the_direction_and_the_mean_over_seeds(tmp_path, direction, best):
    sweep = write_sweep(tmp_path, directions=(direction,), seeds=2)
    for number in range(3):
        for seed in (0, 1):
            write_trial(tmp_path, number, seed=seed)
    found = best_point(SweepTable(sweep).rows(), sweep.info)
    assert (found.point, found.num_runs, found.value) == (best, 2, 30.5 + best)
    lines = lines_of(sweep, 100)
    assert f"val/chrf {30.5 + best:.5g}, mean of 2 runs" in lines[1]
    assert "seed" not in lines[1]
    assert sum(line.startswith("*") for line in lines) == 2


def test_a_long_table_keeps_the_best_the_running_and_the_last(tmp_path):
    sweep = write_sweep(tmp_path, directions=("minimize",))
    write_trial(tmp_path, 0)
    running = write_trial(tmp_path, 1, "running")
    for number in (2, 3, 4):
        write_trial(tmp_path, number)
    with FileLock(running.path / ".lock"):
        lines = lines_of(sweep, limit=3)
    assert [line[:5] for line in lines[4:7]] == ["*0000", " 0001", " 0004"]
    assert lines[7] == "and 2 more trials that have ended"


def test_only_runs_that_had_not_ended_are_read_again(tmp_path, monkeypatch):
    sweep = write_sweep(tmp_path)
    write_trial(tmp_path, 0)
    running = write_trial(tmp_path, 1, "running")
    table, opened = SweepTable(sweep), []
    assert [row.status for row in table.rows()] == ["finished", "interrupted"]
    monkeypatch.setattr(RunRecord, "open", lambda path, read=RunRecord.open: opened.append(path.name) or read(path))
    running.write_manifest(status="finished")
    write_trial(tmp_path, 2)
    assert [row.status for row in table.rows()] == ["finished"] * 3
    assert [row.status for row in table.rows()] == ["finished"] * 3
    assert opened == [f"{SWEEP}-0001", f"{SWEEP}-0002"]


def test_the_remaining_time(tmp_path):
    sweep = write_sweep(tmp_path)
    records = [write_trial(tmp_path, number) for number in range(2)]
    rows = [read_trial(record, sweep.info) for record in records]
    assert {row.seconds for row in rows} == {60.0}
    assert seconds_left(rows, 8, 2) == 180.0
    assert seconds_left(rows, 8, None) is None
    running = write_trial(tmp_path, 2, "running")
    with FileLock(running.path / ".lock"):
        rows.append(read_trial(running, sweep.info))
    assert seconds_left(rows, 8, None) == pytest.approx(5 * 60.0)
    assert seconds_left([], 8, 2) is None


def test_a_trial_without_a_readable_config_is_shown(tmp_path):
    sweep = write_sweep(tmp_path)
    for number in range(2):
        write_trial(tmp_path, number)
    record = write_trial(tmp_path, 2)
    (record.path / "settings.json").unlink()
    (record.path / "config.yaml").write_text("a: [")
    assert any(line.startswith("*0002  finished") for line in lines_of(sweep))


def test_watch_prints_the_table_once_without_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    write_sweep(tmp_path, status="finished")
    for number in range(3):
        write_trial(tmp_path, number)
    assert cli.main(["watch", "abcd1", "--runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("best so far: lr=0.01, val/chrf 32") == 1
    assert max(map(len, out.splitlines())) <= 80


def test_in_a_pipe_each_trial_is_a_line_with_its_value(tmp_path, capfd):
    sweep = write_sweep(tmp_path)
    with LiveTable(sweep, open_console(width=100), 1) as table:
        for number in range(3):
            record = write_trial(tmp_path, number)
            table.print_outcome(record.id, Outcome("finished"))
        table.print_outcome("x", Outcome("failed", "ValueError: no"))
    err = capfd.readouterr().err
    assert f"run {SWEEP}-0000: finished: r=4 lr=0.001, val/chrf 30, the best so far" in err
    assert f"run {SWEEP}-0002: finished: lr=0.01, val/chrf 32, the best so far" in err
    assert "run x: failed: ValueError: no" in err


@pytest.mark.slow
def test_optuna_prints_nothing_into_the_table(tmp_path, capfd):
    log = []
    with library_warnings.off_screen(), library_warnings.logged(log.append), warnings.catch_warnings():
        warnings.simplefilter("always")
        open_storage(f"sqlite:///{tmp_path / 'study.db'}")
        for number in range(3):
            TPE().build(None, number)
    assert {line.split(":")[0] for line in log} == {"ExperimentalWarning"}
    assert capfd.readouterr().err == ""
