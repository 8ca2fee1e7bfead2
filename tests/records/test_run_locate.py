"""Runs are found by what a person would type."""

import json
import os
import re

import pytest
from filelock import FileLock

from instruct_lab import cli
from instruct_lab.errors import InstructLabError
from instruct_lab.records import find_run, list_runs
from instruct_lab.records.query import find_runs


def make_run(runs_path, name, run_id, written=0, **manifest):
    path = runs_path / name / run_id
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("{}\n")
    os.utime(path / "config.yaml", (written, written))
    (path / "manifest.json").write_text(json.dumps({"id": run_id, "status": "finished", **manifest}))
    return path


@pytest.fixture
def runs(tmp_path):
    path = tmp_path / "runs"
    make_run(path, "lora", "20260101-000000-aaaa")
    make_run(path, "full", "20260101-000001-bbbb")
    make_run(path, "lora", "20260202-000000-cccc", written=2)
    make_run(path, "lora", "20260202-000000-0ddd", written=3)  # in the same second, and later
    (path / "wandb" / "offline-run").mkdir(parents=True)
    return path


def test_a_run_is_found_by_folder_id_prefix_and_latest(runs, monkeypatch):
    def found(reference):
        record = find_run(runs, reference)
        return f"{record.name}/{record.id}"

    assert found(runs / "full" / "20260101-000001-bbbb") == "full/20260101-000001-bbbb"
    assert found("20260101-000000-aaaa") == "lora/20260101-000000-aaaa"
    assert found("20260101-000001") == "full/20260101-000001-bbbb"
    assert found("full/") == "full/20260101-000001-bbbb"
    assert found("lora/20260101") == "lora/20260101-000000-aaaa"
    assert found("latest") == "lora/20260202-000000-0ddd"
    monkeypatch.chdir(runs.parent)
    assert found("runs/lora/20260202-000000-cccc") == "lora/20260202-000000-cccc"


def test_an_id_that_begins_another_is_itself(runs):
    make_run(runs, "lora", "20260101-000000-aaaa2")
    assert find_run(runs, "20260101-000000-aaaa").id == "20260101-000000-aaaa"


def test_an_ambiguous_reference_names_the_candidates(runs):
    with pytest.raises(InstructLabError, match="2 runs match '20260202'") as refused:
        find_run(runs, "20260202")
    assert "20260202-000000-cccc" in str(refused.value)
    assert "20260101" not in str(refused.value)


def test_an_unknown_reference_names_the_nearest(runs):
    with pytest.raises(InstructLabError, match=r"the most similar are full/20260101-000001-bbbb") as refused:
        find_run(runs, "20260101-000001-bbbc")
    assert "instruct-lab runs" in str(refused.value)
    with pytest.raises(InstructLabError, match="most similar are full/"):
        find_run(runs, "ful1")
    with pytest.raises(InstructLabError):
        find_run(runs, "")


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(InstructLabError, match="no runs yet"):
        find_run(tmp_path / "none", "latest")
    assert list_runs(tmp_path / "none") == []


def test_runs_are_listed_with_choices_and_final_metrics(tmp_path):
    path = make_run(tmp_path, "lora", "20260101-000000-aaaa", choices={"tuning": "lora"})
    measured = {"before": {"value": 17.0}, "after": {"value": 47.0}, "difference": {"value": 30.0}}
    (path / "summary.json").write_text(
        json.dumps({"metrics": {"test/chrf": measured, "test/bleu": {"before": {"value": 2.0}}}})
    )
    assert [run.to_json() for run in list_runs(tmp_path)] == [
        {
            "id": "20260101-000000-aaaa",
            "name": "lora",
            "status": "finished",
            "path": str(path),
            "choices": {"tuning": "lora"},
            "metrics": {"test/chrf": 47.0, "test/bleu": 2.0},
            "started": None,
        }
    ]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", "{"),
        ("manifest.json", "[]"),
        ("manifest.json", "\0\0"),
        ("manifest.json", '{"status": "finished", "choices": 3}'),
        ("summary.json", "[1]"),
        ("summary.json", '{"metrics": 3}'),
        ("summary.json", '{"seconds": "long"}'),
        ("summary.json", '{"metrics": {"test/chrf": {"after": {"value": "much"}}}}'),
        ("summary.json", '{"metrics": {"test/chrf": {"after": {"value": [1]}}}}'),
        ("summary.json", '{"metrics": {"test/chrf": [3]}}'),
        ("manifest.json", "[" * 100_000),
        ("manifest.json", '{"status": "finished", "choices": {"tuning": ' + '{"a":' * 700 + "1" + "}" * 701 + "}"),
        ("manifest.json", '{"status": {"a": 1}}'),
        ("manifest.json", '{"status": "finished", "inputs": 3}'),
        ("manifest.json", '{"status": "finished", "sweep": [1]}'),
        ("manifest.json", '{"choices": {}}'),
        ("metrics.jsonl", "\xff\0"),
    ],
)
def test_a_broken_record_hides_no_other(runs, file, content, capsys):
    broken = runs / "lora" / "20260101-000000-aaaa"
    (broken / file).write_text(content, encoding="latin-1")
    listed = {run.id: run.status_text for run in list_runs(runs)}
    assert len(listed) == 4
    assert listed.pop(broken.name) == ("finished" if file == "metrics.jsonl" else f"damaged ({file})")
    assert set(listed.values()) == {"finished"}
    assert cli.main(["runs", "--runs", str(runs)]) == 0
    assert cli.main(["runs", "--json", "--runs", str(runs), "status=finished"]) == 0
    assert capsys.readouterr().out.count('"status": "finished"') >= 3


def test_a_record_without_a_manifest_is_listed_as_damaged(runs):
    (runs / "full" / "20260101-000001-bbbb" / "manifest.json").unlink()
    assert [run.status for run in list_runs(runs)].count("damaged") == 1


def pipe(path):
    os.mkfifo(path)


@pytest.mark.parametrize("make", [os.mkdir, pipe])
@pytest.mark.parametrize("file", ["manifest.json", "summary.json"])
def test_a_folder_or_a_pipe_instead_of_a_file_is_damage(runs, file, make):
    broken = runs / "lora" / "20260101-000000-aaaa"
    (broken / file).unlink(missing_ok=True)
    make(broken / file)
    assert {run.id: run.note for run in list_runs(runs)}[broken.name] == file
    assert [run.status for run in list_runs(runs)].count("damaged") == 1


@pytest.mark.parametrize("content", ["{", "- 1\n- 2\n", "\xff", "a: [", "3"])
def test_a_damaged_config_hides_no_other_run_from_a_query(runs, content):
    for path in runs.glob("*/*/config.yaml"):
        path.write_text("seed: 1\n")
    broken = runs / "lora" / "20260101-000000-aaaa" / "config.yaml"
    broken.write_text(content, encoding="latin-1")
    assert len(find_runs(runs, ["seed=1"])) == 3
    assert len(find_runs(runs, [], sort="seed")) == 4


@pytest.mark.slow
def test_a_run_whose_process_is_gone_is_interrupted(runs, capsys):
    for index, path in enumerate(sorted(runs.glob("lora/*"))):
        make = {"id": path.name, "status": "running"}
        (path / "manifest.json").write_text(json.dumps(make))
        if index:
            (path / ".lock").touch()
    with FileLock(path / ".lock"):
        found = {run.id: run.status_text for run in list_runs(runs)}
        assert found.pop(path.name) == "running"
        assert sorted(found.values()) == ["finished", *["interrupted (process gone)"] * 2]
        assert len(find_runs(runs, ["status=interrupted"])) == 2
        assert cli.main(["runs", "--runs", str(runs)]) == 0
        out = capsys.readouterr().out
        assert len(re.findall(r"^\S+ +interrupted", out, re.MULTILINE)) == 2
        assert "interrupted (process gone): 20260101-000000-aaaa, 2" in out
    assert not (path.parent / "20260101-000000-aaaa" / ".lock").exists()  # looking creates no file
