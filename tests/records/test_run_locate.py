"""Runs are found by what a person would type."""

import json
import os

import pytest

from instruct_lab.errors import InstructLabError
from instruct_lab.records import find_run, list_runs


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
        ("metrics.jsonl", "\xff\0"),
    ],
)
def test_a_broken_record_hides_no_other(runs, file, content):
    broken = runs / "lora" / "20260101-000000-aaaa"
    (broken / file).write_text(content, encoding="latin-1")
    listed = {run.id: run.status for run in list_runs(runs)}
    assert len(listed) == 4
    assert listed.pop(broken.name) == ("finished" if file == "metrics.jsonl" else "unreadable")
    assert set(listed.values()) == {"finished"}


def test_a_record_without_a_manifest_is_listed_as_unreadable(runs):
    (runs / "full" / "20260101-000001-bbbb" / "manifest.json").unlink()
    assert [run.status for run in list_runs(runs)].count("unreadable") == 1
