"""The run record: what is written, and that it stays readable."""

import datetime
import json
import math
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.records import size_up_to

from instruct_lab import files
from instruct_lab.errors import InstructLabError
from instruct_lab.metrics import MetricValue
from instruct_lab.records import PredictionLine, ReadOnlyRecord, RunRecord, Summary

CONFIG = {"name": None, "seed": 3, "tuning": {"_target_": "instruct_lab.tuning.LoRA", "r": 16}, "tags": ["a", "b"]}


@pytest.fixture
def record(tmp_path) -> RunRecord:
    return RunRecord.create(tmp_path / "runs", "study", CONFIG, ["tuning.r=16"], choices={"tuning": "lora"})


def test_a_new_record_says_what_the_run_is(record, tmp_path):
    assert record.path.parent == tmp_path / "runs" / "study"
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", record.id)
    opened = RunRecord.open(record.path)
    assert (opened.id, opened.name) == (record.id, "study")
    assert opened.config == CONFIG
    assert opened.overrides == ["tuning.r=16"]
    assert opened.manifest.status == "running"
    assert opened.manifest.choices == {"tuning": "lora"}
    entries = opened.read_json("manifest.json")
    assert {"code", "packages", "python", "platform", "hardware", "started"} <= set(entries)
    assert opened.summary is None
    assert opened.read_metrics() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        "1e-3", "0x1F", "1_000", "yes", "null", "~", "", " padded ", "é 中文 🎉", "two\nlines\n",
        "tab\tand: colon # hash",
        "${not.an.interpolation}", r"\${escaped}", r"\\${twice}", "a ${x} b \\", "{run_path}", "- dash", "'\"",
        "2026-01-01",
        1e-8, 2e-5, 1.0, 10**20, True, None, [], {}, [1, [2.5, None]], {"deep": {"er": "on"}},
    ],
)  # fmt: skip
def test_a_config_comes_back_from_yaml_as_it_was(tmp_path, value):
    config = {"key": value, "list": [value]}
    found = RunRecord.create(tmp_path, "study", config, [str(value)]).config
    assert found == config
    assert type(found["key"]) is type(value)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", ".hidden", "nul\0", "x" * 201])
def test_a_name_that_is_not_one_folder_is_refused(tmp_path, name):
    with pytest.raises(InstructLabError, match="cannot be named"):
        RunRecord.create(tmp_path / "runs", name, {}, [])
    assert not (tmp_path / "runs").exists()


def _create_many(runs_path: str, count: int, results) -> None:
    from instruct_lab.records import folder as module

    module.datetime = type("Clock", (), {"now": staticmethod(lambda zone: datetime.datetime(2026, 1, 2))})
    results.put([str(module.new_folder(Path(runs_path) / "study")) for _ in range(count)])


@pytest.mark.slow
def test_records_created_at_once_never_share_a_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_create_many, args=(str(tmp_path), 3, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    paths = [path for _ in workers for path in results.get()]
    for worker in workers:
        worker.join()
    assert len(set(paths)) == len(paths) == 9


def test_ids_sort_by_time(tmp_path, monkeypatch):
    from instruct_lab.records import folder as module

    times = [
        datetime.datetime(2026, 1, 2, 3, 4, 5),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 1),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 16),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 999_999),
        datetime.datetime(2026, 1, 2, 3, 4, 6),
        datetime.datetime(2027, 1, 1),
    ]
    clock = type("Clock", (), {"now": staticmethod(lambda zone: times[0])})
    monkeypatch.setattr(module, "datetime", clock)
    ids = []
    while times:
        ids.append(module.new_folder(tmp_path / "study").name)
        times.pop(0)
    assert ids == sorted(ids)
    assert ids[0].startswith("20260102-030405-")


# ---- metrics


def test_metrics_are_one_object_a_line(record):
    record.append_metrics(step=1, epoch=0, values={"train/loss": 2.5})
    record.append_metrics(step=2, epoch=0.5, values={"train/loss": 2.0, "val/loss": 2.1})
    lines = [json.loads(line) for line in (record.path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["epoch"], line["train/loss"]) for line in lines] == [(1, 0, 2.5), (2, 0.5, 2.0)]
    assert list(lines[1]) == ["step", "epoch", "seconds", "train/loss", "val/loss"]
    assert 0 <= lines[0]["seconds"] <= lines[1]["seconds"] < 60
    assert record.read_metrics() == lines


def test_numbers_of_other_libraries_are_numbers(record):
    import numpy
    import torch

    record.append_metrics(
        1, 0, {"train/a": torch.tensor(1.5), "train/b": numpy.float32(2.5), "train/c": numpy.int64(3)}
    )
    line = record.read_metrics()[0]
    assert (line["train/a"], line["train/b"], line["train/c"]) == (1.5, 2.5, 3)


def test_a_value_that_is_not_finite_leaves_strict_json(record):
    record.append_metrics(1, 0, {"train/loss": math.nan, "val/perplexity": math.inf})
    text = (record.path / "metrics.jsonl").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    line = record.read_metrics()[0]
    assert math.isnan(line["train/loss"])
    assert math.isnan(line["val/perplexity"])


def test_a_value_cannot_take_the_place_of_the_step(record):
    with pytest.raises(ValueError, match="step"):
        record.append_metrics(1, 0, {"step": 3.0})


def test_a_torn_last_line_is_left_out_and_overwritten(record, caplog):
    record.append_metrics(1, 0, {"train/loss": 1.0})
    with (record.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 2, "epo')
    opened = RunRecord.open(record.path)
    assert [line["step"] for line in opened.read_metrics()] == [1]
    assert not caplog.records  # nothing unusual after a crash
    opened.append_metrics(2, 0, {"train/loss": 0.5})
    assert [line["step"] for line in opened.read_metrics()] == [1, 2]
    assert (record.path / "metrics.jsonl").read_text().count("\n") == 2


def test_a_damaged_line_is_left_out_with_a_warning(record, caplog):
    (record.path / "metrics.jsonl").write_bytes(b'{"step": 1}\n\0\0\0\n[]\n{"step": 2}\n')
    assert [line["step"] for line in record.read_metrics()] == [1, 2]
    assert "2 damaged lines" in caplog.text


def test_a_resumed_run_keeps_the_lines_up_to_its_step_and_its_clock(record):
    path = record.path / "metrics.jsonl"
    lines = [{"step": step, "epoch": 0, "seconds": 100.0 * step, "train/loss": 1 / 3} for step in range(1, 8)]
    lines[3]["train/loss"] = None
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 8')
    (record.path / ".manifest.json.abc.tmp").write_text("left by a killed process")
    opened = RunRecord.open(record.path)
    assert opened.seconds() >= 700
    opened.truncate_metrics(size_up_to(opened.path, 5))
    assert [json.loads(line) for line in path.read_text().splitlines()] == lines[:5]
    assert 500 <= opened.seconds() < 510
    opened.append_metrics(6, 0, {"train/loss": 0.1})
    assert 500 <= opened.read_metrics()[-1]["seconds"] < 510
    assert not list(record.path.glob("*.tmp")) + list(record.path.glob(".*.tmp"))
    opened.truncate_metrics(0)
    assert opened.read_metrics() == []
    assert opened.seconds() < 10


# ---- documents


def test_the_manifest_merges_and_ends(record):
    record.write_manifest(seeds={"seed": 3}, inputs=[MetricValue(1.0, math.nan, 3.0, 4, "any dataclass")])
    record.write_manifest(status="finished")
    manifest, entries = record.manifest, record.read_json("manifest.json")
    assert manifest.seeds == {"seed": 3}
    assert entries["inputs"][0] == {"value": 1.0, "low": None, "high": 3.0, "count": 4, "signature": "any dataclass"}
    assert manifest.status == "finished"
    assert manifest.seconds >= 0
    assert manifest.ended > manifest.started
    record.write_manifest(status="running")
    assert record.manifest.ended is None
    with pytest.raises(ValueError, match="status is one of"):
        record.write_manifest(status="done")


def test_a_failure_leaves_its_traceback(record):
    try:
        raise ZeroDivisionError("by nothing")
    except ZeroDivisionError as error:
        record.write_failure(error)
    manifest = record.manifest
    assert manifest.status == "failed"
    assert (manifest.exception.type, manifest.exception.message) == ("ZeroDivisionError", "by nothing")
    assert "test_run_record.py" in manifest.exception.traceback
    assert "ZeroDivisionError: by nothing" in (record.path / "log.txt").read_text()
    record.write_manifest(status="running")
    assert record.manifest.exception is None


def test_documents_are_written_and_read(record):
    record.write_audit({"stages": {}})
    summary = Summary(metrics={"test/chrf": {"after": MetricValue(1, 0, 2, 3, "s")}})
    record.write_summary(summary)
    lines = [PredictionLine("1", prompt="é中\ud800", scores={"bleu": math.nan}), PredictionLine("2", references=["a"])]
    record.write_predictions(iter(lines))
    assert json.loads((record.path / "audit.json").read_text()) == {"stages": {}}
    assert record.summary == summary
    assert record.read_predictions()[0].scores == {"bleu": None}
    assert record.read_predictions()[0].prompt.startswith("é中")
    assert record.read_predictions()[1] == lines[1]
    (record.path / "summary.json").write_text("{")
    with pytest.raises(InstructLabError, match=r"cannot be read.*summary\.json"):
        _ = record.summary


def test_a_write_that_fails_in_the_middle_leaves_the_old_file(record):
    record.write_predictions([PredictionLine("old")])

    def rows():
        yield PredictionLine("new")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        record.write_predictions(rows())
    assert record.read_predictions() == [PredictionLine("old")]
    assert not list(record.path.glob(".*.tmp"))


def test_a_full_disk_is_reported_and_leaves_whole_lines(record, monkeypatch):
    record.append_metrics(1, 0, {"train/loss": 1.0})
    whole = os.write
    monkeypatch.setattr(files.os, "write", lambda descriptor, content: whole(descriptor, content[:7]))
    with pytest.raises(InstructLabError, match="disk is full"):
        record.append_metrics(2, 0, {"train/loss": 0.5})
    monkeypatch.undo()
    assert (record.path / "metrics.jsonl").read_text().count("\n") == 1
    record.append_metrics(2, 0, {"train/loss": 0.5})
    assert [line["step"] for line in record.read_metrics()] == [1, 2]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(InstructLabError, match="cannot be written"):
        RunRecord.create(tmp_path / "runs", "study", {}, [])


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(InstructLabError, match="no run record"):
        RunRecord.open(tmp_path)


def test_a_process_that_does_not_write_reads_the_same_record(record):
    record.append_metrics(1, 0, {"train/loss": 1.0})
    files_before = {path: path.read_bytes() for path in record.path.iterdir()}
    reader = ReadOnlyRecord.open(record.path)
    assert (record.is_writer, reader.is_writer) == (True, False)
    reader.append_metrics(2, 0, {"train/loss": 0.5})
    reader.truncate_metrics(0)
    reader.write_manifest(status="finished")
    reader.write_summary(Summary())
    reader.write_predictions([PredictionLine("1")])
    reader.write_text("new.txt", "text")
    reader.log("text")
    reader.write_failure(ValueError("text"))
    assert {path: path.read_bytes() for path in record.path.iterdir()} == files_before
    assert reader.read_metrics() == record.read_metrics()
    assert reader.manifest == record.manifest


# ---- crash

WRITER = """
import sys
from instruct_lab.records import PredictionLine, RunRecord
record = RunRecord.open(sys.argv[1])
print("writing", flush=True)
step, sizes = 0, {}
while True:
    step += 1
    record.append_metrics(step, 0, {"train/loss": 1 / step, "text/" + "x" * (step % 3000): 1.0})
    sizes[step] = record.metrics_size()
    if step % 7 == 0:
        record.write_manifest(last=step, filling="y" * (step % 5000))
    if step % 11 == 0:
        record.write_predictions(PredictionLine(str(index), split=str(step)) for index in range(step % 50))
    if step % 101 == 0:
        record.truncate_metrics(sizes[step - 50])
        step -= 50
"""


@pytest.mark.slow
def test_a_record_stays_readable_after_a_kill_at_any_moment(record):
    draw = random.Random(0)
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(record.path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        time.sleep(draw.uniform(0.0, 0.25))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        opened = RunRecord.open(record.path)
        steps = [line["step"] for line in opened.read_metrics()]
        assert all(isinstance(step, int) for step in steps)
        manifest = opened.read_json("manifest.json")
        assert manifest["id"] == record.id
        assert len(manifest.get("filling", "")) == manifest.get("last", 0) % 5000
        predictions = opened.read_predictions()
        assert not predictions or [line.id for line in predictions] == list(
            map(str, range(int(predictions[0].split) % 50))
        )
        opened.truncate_metrics(size_up_to(opened.path, steps[-1] // 2) if steps else 0)
        assert opened.read_metrics() == opened.read_metrics()
        assert not list(record.path.glob(".*.tmp"))
