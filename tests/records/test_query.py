"""Runs are found and sorted by any value in their records."""

import json
import os

import pytest
from support.planted_runs import NAME, record_of

from instruct_lab import cli
from instruct_lab.errors import InstructLabError
from instruct_lab.records import RunRecord
from instruct_lab.records.query import Term, find_runs


@pytest.fixture
def runs(tmp_path):
    for index, (tuning, lr, right) in enumerate([("lora", 1e-3, 3), ("dora", 1e-4, 9), ("lora", 1e-2, 6)]):
        outcomes = [number < right for number in range(10)]
        record = record_of(
            tmp_path, f"run-{index}", outcomes, {"optimizer": {"lr": lr, "fused": True}}, {"tuning": tuning}, seconds=lr
        )
    record.write_manifest(status="failed")
    (tmp_path / "planted" / "torn").mkdir()
    (tmp_path / "planted" / "torn" / "manifest.json").write_text("{")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "found"),
    [
        (["tuning=lora"], ["run-0", "run-2"]),
        (["tuning!=lora"], ["run-1", "torn"]),
        (["optimizer.lr<1e-2"], ["run-0", "run-1"]),
        (["optimizer.lr<=0.01", "tuning=lora"], ["run-0", "run-2"]),
        (["optimizer.lr=0.0010"], ["run-0"]),
        ([f"{NAME}>=60"], ["run-1", "run-2"]),
        ([f"tuning=lora {NAME}>30"], ["run-2"]),
        (["status=failed"], ["run-2"]),
        (["id~RUN-1"], ["run-1"]),
        (["optimizer.fused=true", "training_seconds>0.005"], ["run-2"]),
        (["tuning>lora"], []),
    ],
)
def test_conditions(runs, query, found):
    assert [one.run.id for one in find_runs(runs, query)] == found


@pytest.mark.parametrize(
    ("sign", "value", "missing", "null", "one"),
    [
        ("=", "null", True, True, False),
        ("!=", "null", False, False, True),
        ("=", "none", True, True, False),
        ("=", "1", False, False, True),
        ("!=", "1", True, True, False),
        ("<", "2", False, False, True),
        ("~", "n", False, False, False),
    ],
)
def test_a_missing_value_equals_only_null(sign, value, missing, null, one):
    term = Term("optimizer.lr", sign, value)
    assert [term.holds(facts) for facts in ({}, {"optimizer.lr": None}, {"optimizer.lr": 1})] == [missing, null, one]


def test_an_option_named_none_is_found():
    assert Term("pruner", "=", "none").holds({"pruner": "none"})


@pytest.mark.parametrize(
    ("sort", "reverse", "found"),
    [
        (NAME, False, ["run-0", "run-2", "run-1", "torn"]),
        (NAME, True, ["run-1", "run-2", "run-0", "torn"]),
        ("optimizer.lr", False, ["run-1", "run-0", "run-2", "torn"]),
        ("tuning", False, ["run-1", "run-0", "run-2", "torn"]),
        (None, True, ["torn", "run-2", "run-1", "run-0"]),
    ],
)
def test_sorting_puts_runs_without_the_key_last(runs, sort, reverse, found):
    assert [one.run.id for one in find_runs(runs, sort=sort, reverse=reverse)] == found


@pytest.mark.parametrize(
    ("query", "message"), [(["tunning=lora"], "did you mean tuning"), (["lora"], "not a condition")]
)
def test_an_impossible_query_is_refused(runs, query, message):
    with pytest.raises(InstructLabError, match=message):
        find_runs(runs, query)


def test_the_command(runs, capsys):
    arguments = ["runs", "tuning=lora", f"{NAME}>=30", "--sort", NAME, "--reverse", "--runs", str(runs)]
    assert cli.main([*arguments, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [run["id"] for run in listed] == ["run-2", "run-0"]
    assert set(listed[0]) == {"id", "name", "status", "path", "choices", "metrics", "started", "label"}
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    assert text.index("run-2") < text.index("run-0")
    assert "run-1" not in text
    assert cli.main(["runs", "tunning=lora", "--runs", str(runs)]) == 2
    assert cli.main(["runs", "--runs", str(runs / "nowhere")]) == 0


def test_config_keys_are_read_from_the_settings_unless_the_config_was_edited(tmp_path, monkeypatch):
    for seed in range(3):
        RunRecord.create(tmp_path, "study", {"seed": seed, "optimizer": {"lr": 0.1}, "name": "x"}, [])
    found = find_runs(tmp_path, ["seed>=1"], sort="optimizer.lr")
    assert [one.values["seed"] for one in found] == [1, 2]
    config = found[0].run.path / "config.yaml"
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "config", property(lambda record: pytest.fail("the config was read")))
        assert find_runs(tmp_path, ["seed>=1"], sort="optimizer.lr") == found
    config.write_text("seed: 7\n")
    os.utime(config, ns=(2**62, 2**62))
    assert [one.run.path for one in find_runs(tmp_path, ["seed=7"])] == [config.parent]
